"""The columns of a summary."""

from runner.analysis.run.operating_points import BLOCK, ENERGY_METRICS, GOALS, METRICS, OPERATING_POINTS, PHASES, POINT
from runner.results.tables import TRIALS
from runner.spec.load import LOAD_COLUMNS


def test_blocks_and_operating_points_are_told_apart_by_columns_of_the_trials() -> None:
    for name in (*BLOCK, *POINT):
        assert OPERATING_POINTS[name] == TRIALS[name]
    assert ("block_id", "model", "task", "request_kind", *LOAD_COLUMNS) == BLOCK
    assert POINT == (
        "sm_clock_mhz_requested",
        "mem_clock_mhz_requested",
        "power_limit_w_requested",
        "clock_lock_requested",
    )


def test_the_columns_that_other_programs_read_stand_in_their_order() -> None:
    assert list(OPERATING_POINTS)[:10] == [
        "block_id",
        "model",
        "task",
        "request_kind",
        "concurrency",
        "sm_clock_mhz_requested",
        "mem_clock_mhz_requested",
        "power_limit_w_requested",
        "is_default",
        "gpu_name",
    ]


def test_every_metric_has_an_interval_and_a_change() -> None:
    for metric in METRICS:
        for suffix in ("", "_low", "_high", "_change", "_change_low", "_change_high"):
            assert f"{metric}{suffix}" in OPERATING_POINTS
    assert set(ENERGY_METRICS) < set(METRICS)
    assert set(GOALS) <= set(ENERGY_METRICS)
    assert set(PHASES) <= set(OPERATING_POINTS) & set(TRIALS)
