"""Models under one load, and loads of one model, on points whose ratios are known."""

import math

import polars as pl
import pytest

from runner.analysis.advice.model_comparison import (
    LOAD_COMPARISONS,
    MODEL_COMPARISONS,
    compare_loads,
    compare_models,
)
from runner.analysis.run.intervals import GPU_SPREAD
from runner.analysis.run.operating_points import OPERATING_POINTS

GPU_A, GPU_B = ["GPU-a"], ["GPU-b"]


def make_points(*rows: dict) -> pl.DataFrame:
    """Least-energy points, each with 100 J a request within 2 % and 1 J a token within 1 %, unless said otherwise."""
    common = {
        "task": "qa",
        "request_kind": "generate",
        "model": "small",
        "concurrency": 4,
        "gpu_uuids": GPU_A,
        "is_least_energy": True,
        "joules_per_request": 100.0,
        "joules_per_token": 1.0,
    }
    filled = []
    for row in rows:
        point = common | row
        for name, share in (("joules_per_request", 0.02), ("joules_per_token", 0.01)):
            if point[name] is not None:
                point.setdefault(f"{name}_low", point[name] * math.exp(-share))
                point.setdefault(f"{name}_high", point[name] * math.exp(share))
        filled.append(point)
    return pl.DataFrame(filled, schema=OPERATING_POINTS)


# models --------------------------------------------------------------------------------------------------------------


def test_models_are_compared_with_the_one_that_needs_least_for_a_request():
    compared = compare_models(
        make_points({}, {"model": "large", "joules_per_request": 300.0}, {"model": "huge", "joules_per_request": 900.0})
    )
    assert dict(compared.schema) == MODEL_COMPARISONS
    assert compared.select("model", "reference_model", "ratio").rows() == [
        ("large", "small", pytest.approx(3.0)),
        ("huge", "small", pytest.approx(9.0)),
    ]
    row = compared.row(0, named=True)
    half_width = math.hypot(0.02, 0.02)  # of two independent means
    assert row["ratio_low"] == pytest.approx(3.0 * math.exp(-half_width))
    assert row["ratio_high"] == pytest.approx(3.0 * math.exp(half_width))
    assert row["on_same_board"]


def test_two_gpus_widen_the_interval():
    [row] = compare_models(
        make_points({}, {"model": "large", "joules_per_request": 300.0, "gpu_uuids": GPU_B})
    ).to_dicts()
    assert not row["on_same_board"]
    half_width = math.sqrt(2 * 0.02**2 + GPU_SPREAD**2)
    assert row["ratio_high"] == pytest.approx(3.0 * math.exp(half_width))


def test_only_the_least_energy_of_each_block_is_compared_and_tasks_and_loads_apart():
    compared = compare_models(
        make_points(
            {},
            {"joules_per_request": 1.0, "is_least_energy": False},
            {"model": "large", "joules_per_request": 200.0},
            {"model": "large", "joules_per_request": 1.0, "concurrency": 64},
            {"model": "huge", "joules_per_request": 1.0, "task": "other"},
            {"model": "huge", "joules_per_request": 1.0, "request_kind": "loglikelihood"},
        )
    )
    assert compared.select("task", "concurrency", "model", "ratio").rows() == [("qa", 4, "large", pytest.approx(2.0))]


def test_a_mean_without_an_interval_or_a_value_leaves_none():
    wide = {"model": "large", "joules_per_request": 300.0, "joules_per_request_low": None}
    [row] = compare_models(make_points({}, wide)).to_dicts()
    assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == (pytest.approx(3.0), None, None)
    assert compare_models(make_points({}, {"model": "large", "joules_per_request": None})).is_empty()
    assert compare_models(make_points()).is_empty()


# loads ---------------------------------------------------------------------------------------------------------------


def test_loads_are_compared_with_the_one_that_needs_least_for_a_token():
    compared = compare_loads(
        make_points(
            {"concurrency": 1, "joules_per_token": 5.0},
            {"concurrency": 16},
            {"concurrency": 64, "joules_per_token": 2.0},
            {"model": "large", "concurrency": 1, "joules_per_token": 9.0},
        )
    )
    assert dict(compared.schema) == LOAD_COMPARISONS
    assert compared.select("model", "concurrency", "reference_concurrency", "ratio").rows() == [
        ("small", 64, 16, pytest.approx(2.0)),
        ("small", 1, 16, pytest.approx(5.0)),
    ]
    assert compared["ratio_high"][0] == pytest.approx(2.0 * math.exp(math.hypot(0.01, 0.01)))


def test_the_least_energy_is_not_required_of_a_chosen_point():
    """A limit may have chosen another point to stand for its block."""
    compared = compare_loads(make_points({"is_least_energy": False}, {"concurrency": 1, "joules_per_token": 3.0}))
    assert compared["ratio"].to_list() == [pytest.approx(3.0)]


def test_a_table_that_lacks_the_load_has_nothing_to_compare():
    assert compare_loads(make_points({"concurrency": None}, {"concurrency": None, "joules_per_token": 2.0})).is_empty()
