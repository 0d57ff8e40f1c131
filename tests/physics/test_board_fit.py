"""The committed constants against the published tables, recomputed here from the CSV files."""

import sys
from pathlib import Path
from statistics import median

import pytest

from runner.physics.board import load_board

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import board_errors
import fit_board


def median_magnitude(values: list[float]) -> float:
    return median(map(abs, values))


def test_rtx5090_grid_within_ten_percent() -> None:
    rows = board_errors.rtx5090_rows()
    found = board_errors.errors(load_board("rtx5090"), rows)
    assert len(rows) == 26
    assert median_magnitude(found.time) < 0.10
    assert median_magnitude(found.power) < 0.10
    assert not any(clock for clock in found.sm_clock), "the grid's locks were not capped"


def test_rtx5090_optimum_costs_at_most_five_percent_more_than_the_grids_least() -> None:
    board, rows = load_board("rtx5090"), board_errors.rtx5090_rows()
    assert board_errors.excess_at_model_optimum(board, rows) <= 0.05
    full_memory_clock = [row for row in rows if row.point.mem_clock_mhz == 14001]
    assert board_errors.excess_at_model_optimum(board, full_memory_clock) <= 0.05


def test_h200_table_within_eight_percent() -> None:
    rows = board_errors.h200_rows()
    found = board_errors.errors(load_board("h200"), rows)
    assert len(rows) == 47
    assert median_magnitude(found.time) < 0.08
    assert median_magnitude(found.power) < 0.08
    capped = [error for row, error in zip(rows, found.sm_clock, strict=True) if row.sm_clock_mhz < 1965]
    assert median_magnitude(capped) < 0.08


@pytest.mark.parametrize(("power_w", "saved_w"), fit_board.PUBLISHED_SAVINGS_W)
def test_h200_saves_what_was_published(power_w: float, saved_w: float) -> None:
    assert fit_board.host_paced_saving_w(load_board("h200"), power_w) == pytest.approx(saved_w, abs=6)


def test_h200_loses_under_a_percent_of_decoding_throughput_at_780_mhz() -> None:
    board = load_board("h200")
    fast, slow = fit_board.decoding_at(board, 1980), fit_board.decoding_at(board, 780)
    assert 1 <= slow.duration_s / fast.duration_s < 1.01
