"""The section about request rates, over made-up operating points."""

from runner.analysis.study import study_trials
from runner.display.report.document import Findings, Table
from runner.display.report.rate_section import rate_section
from tests.display.trials import TRIALS


def test_a_run_of_closed_loops_has_no_such_section() -> None:
    assert rate_section(study_trials(TRIALS)) is None


def test_each_rate_has_a_row_and_the_load_a_sentence() -> None:
    open_loops = TRIALS.with_columns(concurrency=None, burstiness=1.0)
    two_rates = [
        open_loops.with_columns(request_rate_per_s_requested=rate, block_id=open_loops["block_id"] + f"-{rate}")
        for rate in (2.0, 9.0)
    ]
    study = study_trials(two_rates[0].vstack(two_rates[1]).select(TRIALS.columns).cast(dict(TRIALS.schema)))
    section = rate_section(study)
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, Table))
    loads = next(column.cells for column in table.columns if column.header == "load")
    assert set(loads) == {"2/s", "9/s"}
    (said,) = (part for part in section.parts if isinstance(part, Findings))
    assert "2 to 9 requests/s" in said.texts[0]
