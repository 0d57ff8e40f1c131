"""A plan on the terminal; how it looks is in tests/display/golden/plan_*.txt."""

import pytest
from rich.cells import cell_len

from runner.display.plan import render_plan
from runner.results.plan import Plan, PlannedTrial
from runner.spec.load import ClosedLoop
from runner.spec.operating_point import OperatingPoint

MODELS = ("shapes/falcon-7b", "shapes/mistral-7b", "shapes/llama-3.2-1b")
CLOCKS = (None, 1980, 345, 1155, 1440, 615, 1710, 885)


def planned(
    model: str, task: str, concurrency: int, clock: int | None, *, mem_clock_mhz=None, power_limit_w=None, **columns
) -> PlannedTrial:
    fields = {
        "trial_id": "t",
        "block_id": f"{model} {task} {concurrency}",
        "model": model,
        "task": task,
        "load": ClosedLoop(concurrency=concurrency),
        "repeat": 0,
        "is_sentinel": False,
        "operating_point": OperatingPoint(sm_clock_mhz=clock, mem_clock_mhz=mem_clock_mhz, power_limit_w=power_limit_w),
        "problem": None,
        "estimated_duration_s": 500.0,
        "estimated_energy_j": 90e3,
    }
    return PlannedTrial(**(fields | columns))


def plan_of(*trials: PlannedTrial) -> Plan:
    return Plan(
        name="study",
        gpu_names=("Simulated NVIDIA H200",),
        simulated=True,
        read_only=False,
        trials=trials,
        num_finished=0,
        estimated_duration_s=sum(trial.estimated_duration_s for trial in trials),
        estimated_energy_j=sum(trial.estimated_energy_j for trial in trials),
    )


STUDY = plan_of(
    *(
        planned(model, task, concurrency, clock)
        for model in MODELS
        for task, concurrency in (("answer", 1), ("narrativeqa_summary", 32))
        for clock in CLOCKS
        for _ in range(3)
    )
)


@pytest.mark.parametrize("width", [80, 120])
def test_a_plan_looks_as_it_did(width, render, check_golden):
    check_golden(f"plan_{width}", render(render_plan(STUDY), width, 100), width)


@pytest.mark.parametrize("width", [70, 80, 120])
def test_no_name_is_cut_and_no_row_is_broken(width, render):
    lines = [line.rstrip() for line in render(render_plan(STUDY), width, 100).splitlines()]
    assert all(cell_len(line) <= width for line in lines)
    assert all(f"{model}: 48 trials, 6 h 40 min, 4.32 MJ" in lines for model in MODELS)
    assert sum(line.split()[1:] == ["answer", "1", "24", "3", "h", "20", "min", "2.16", "MJ"] for line in lines) == 3


def test_a_models_blocks_keep_the_numbers_of_their_order(render):
    plan = plan_of(*(planned(model, "qa", 1, 990) for model in ("a", "b")), planned("a", "late", 1, 990))
    lines = [line.split() for line in render(render_plan(plan), 80, 100).splitlines()]
    blocks = [line[:2] for line in lines if "qa" in line or "late" in line]
    assert blocks == [["1", "qa"], ["2", "qa"], ["3", "late"]]


def test_operating_points_are_named_in_full(render):
    plan = plan_of(
        planned("m", "qa", 1, None, is_sentinel=True),
        planned("m", "qa", 1, 990, mem_clock_mhz=2201, power_limit_w=400.0),
        planned("m", "qa", 1, None, power_limit_w=400.0),
        planned("m", "qa", 1, None, problem="no such clock"),
        planned("m", "qa", 1, None, is_sentinel=True),
    )
    text = render(render_plan(plan), 120, 100)
    assert "default ×2, 990 / memory 2201 / 400 W, 400 W, impossible" in text
    assert "Cannot be set on this GPU: no such clock" in text
