"""Names of blocks, loads, operating points and GPUs."""

from runner.display.text.names import (
    name_block,
    name_workload,
    short_gpu_names,
    short_load,
    short_names,
    short_point,
    shortest_point,
)
from runner.spec.load import ClosedLoop


def test_points_are_named_shortly():
    point = dict.fromkeys(("sm_clock_mhz_requested", "mem_clock_mhz_requested", "power_limit_w_requested"))
    assert shortest_point(point) == "default"
    assert shortest_point(point | {"power_limit_w_requested": 400.0}) == "400 W"
    assert shortest_point(point | {"sm_clock_mhz_requested": 990, "power_limit_w_requested": 400.0}) == "990 MHz, 400 W"


def test_a_table_names_a_point_without_its_article():
    point = dict.fromkeys(("sm_clock_mhz_requested", "mem_clock_mhz_requested", "power_limit_w_requested"))
    assert short_point(point) == "default"
    assert short_point(point | {"sm_clock_mhz_requested": 990, "mem_clock_mhz_requested": 2201}) == (
        "990 MHz, memory 2201 MHz"
    )


def test_a_load_is_named_in_full_and_below_its_heading():
    row = {"task": "qa", "model": "org/small", "concurrency": 16}
    assert name_block(row) == "qa on org/small, 16 in flight"
    assert name_workload(row) == "qa, 16 in flight"
    assert short_load(ClosedLoop(concurrency=16)) == "16"


def test_an_unknown_load_is_left_out():
    row = {"task": "qa", "model": "org/small", "concurrency": None}
    assert name_block(row) == "qa on org/small"
    assert name_workload(row) == "qa"
    assert short_load(None) == "–"


def test_models_lose_their_owner_where_that_tells_them_apart():
    assert short_names(["a/small", "b/large"]) == {"a/small": "small", "b/large": "large"}
    assert short_names(["a/small", "b/small"]) == {"a/small": "a/small", "b/small": "b/small"}


def test_gpus_are_told_apart_by_as_few_groups_as_possible():
    assert short_gpu_names(["GPU-1a-00", "GPU-9b-00"]) == {"GPU-1a-00": "GPU-1a", "GPU-9b-00": "GPU-9b"}
    assert short_gpu_names(["GPU-1a-00", "GPU-1a-01"]) == {"GPU-1a-00": "GPU-1a-00", "GPU-1a-01": "GPU-1a-01"}
