"""Every kind of figure has a place on the page."""

from pathlib import Path
from typing import get_args

from runner.display.plots.all_plots import make_plots
from runner.display.text.figures import FIGURE_TITLES, FigureKind
from tests.display.studies import make_study, write_run


def test_every_kind_has_a_title_and_is_drawn_in_the_order_of_the_page(tmp_path: Path) -> None:
    assert tuple(FIGURE_TITLES) == get_args(FigureKind)
    assert list(make_plots(make_study(), write_run(tmp_path))) == list(FIGURE_TITLES)
