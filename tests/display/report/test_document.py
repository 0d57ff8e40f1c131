"""The parts of a document."""

from runner.display.report.document import Column, Figures, Sentences, Table, select


def test_a_table_is_read_by_rows() -> None:
    columns = (Column("a", "a", ("1", "2"), 0), Column("b", "b", ("3", "4"), 1))
    table = Table(columns=columns, row_marks=("", "good"))
    assert table.rows() == [("1", "3"), ("2", "4")]
    assert [table.mark_of(row) for row in range(2)] == ["", "good"]
    assert Table(columns=columns).mark_of(1) == ""


def test_each_renderer_gets_its_own_parts() -> None:
    both, page, terminal = (
        Sentences(texts=("x",), audience=audience)
        for audience in ("all", "page", "terminal")  # type: ignore[arg-type]
    )
    figures = Figures(figure_kind="energy")
    assert list(select([both, page, terminal, figures], "terminal")) == [both, terminal]
    assert list(select([both, page, terminal, figures], "page")) == [both, page, figures]
