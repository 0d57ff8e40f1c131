"""A plan: the trials of the sweep, their clocks on the GPU, and estimates of the right size."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runner.analysis.window.trial_row import analyse_trial
from runner.display.plan import render_plan
from runner.execution.preflight.plan import LOAD_S, OVERHEAD_S, plan_sweep
from runner.hardware.factory import open_nvml
from runner.hardware.gpu import GpuInfo
from runner.hardware.selection import select_gpus
from runner.results.plan import Plan
from runner.spec.sweep import parse_sweep
from runner.spec.trial import expand_trials
from runner.tasks.task import TaskError
from runner.timebase import WallTime
from tests.execution.trial_contexts import make_requests, open_context

SYNTHETIC = {"name": "synthetic", "num_prompt_tokens": 128, "num_output_tokens": 64, "num_requests": 40}


@pytest.fixture
def gpus(tmp_path: Path) -> list[GpuInfo]:
    return select_gpus(open_nvml("sim:h200x2", WallTime(), tmp_path / "gpus"), "all", None)


def make_plan(
    gpus: list[GpuInfo], *, read_only: bool = False, finished: frozenset[str] = frozenset(), **changes: Any
) -> Plan:
    document = {
        "name": "s",
        "model": [{"id": "shapes/mistral-7b"}],
        "task": [SYNTHETIC],
        "min_window_s": 3.0,
        "axes": {"concurrency": [8], "sm_clock": ["default", "50%", 1203]},
    }
    sweep = parse_sweep(document | changes)
    return plan_sweep(sweep, expand_trials(sweep, read_only=read_only), gpus, read_only=read_only, finished=finished)


def render(plan: Plan) -> str:
    console = Console(width=110, color_system=None)
    with console.capture() as capture:
        console.print(render_plan(plan))
    return capture.get()


def test_the_plan_holds_every_trial_in_order_with_the_gpus_own_clocks(gpus: list[GpuInfo]) -> None:
    plan = make_plan(gpus)
    assert (plan.gpu_names, plan.simulated) == (("Simulated NVIDIA H200",) * 2, True)
    clocks = [trial.operating_point.sm_clock_mhz for trial in plan.trials]
    assert (clocks[0], clocks[-1]) == (None, None)
    assert sorted(filter(None, clocks)) == [990, 1200]
    assert [trial.is_sentinel for trial in plan.trials] == [True, False, False, False, True]


def test_what_the_gpu_cannot_do_is_a_problem_and_not_an_error(gpus: list[GpuInfo]) -> None:
    plan = make_plan(gpus, axes={"sm_clock": ["default", 5000], "power_limit": ["default", 50]})
    problems = {trial.problem for trial in plan.trials} - {None}
    assert len(problems) == 2
    assert any("5000" in problem and "345 to 1980 MHz" in problem for problem in problems)
    text = render(plan)
    assert text.count("Cannot be set on this GPU") == 2
    assert "impossible" in text


def test_finished_trials_cost_nothing_more(gpus: list[GpuInfo]) -> None:
    whole = make_plan(gpus)
    finished = frozenset(trial.trial_id for trial in whole.trials[:2])
    rest = make_plan(gpus, finished=finished | {"of another sweep"})
    assert rest.num_finished == 2
    assert rest.estimated_energy_j == pytest.approx(sum(trial.estimated_energy_j for trial in whole.trials[2:]))
    everything = make_plan(gpus, finished=frozenset(trial.trial_id for trial in whole.trials))
    assert (everything.estimated_duration_s, everything.estimated_energy_j) == (0.0, 0.0)


def test_two_gpus_halve_the_measuring_and_each_loads(gpus: list[GpuInfo]) -> None:
    two, one = make_plan(gpus), make_plan(gpus[:1])
    assert one.estimated_duration_s - LOAD_S == pytest.approx(2 * (two.estimated_duration_s - LOAD_S))


@pytest.mark.parametrize("sm_clock_mhz", [None, 990])
def test_the_estimate_is_near_what_the_simulated_engine_measures(
    gpus: list[GpuInfo], tmp_path: Path, sm_clock_mhz: int | None
) -> None:
    axes = {"concurrency": [8], "sm_clock": [sm_clock_mhz or "default"]}
    planned = next(trial for trial in make_plan(gpus, axes=axes).trials if not trial.is_sentinel)
    with open_context(tmp_path / "context") as context:
        start_ns = context.time_source.now_ns()
        measurement = context.measure(make_requests(), {"sm_clock_mhz_requested": sm_clock_mhz}, num_warmup_requests=8)
        duration_s = (context.time_source.now_ns() - start_ns) * 1e-9
    row = analyse_trial(measurement).row
    assert planned.estimated_duration_s == pytest.approx(duration_s, rel=0.35)
    assert planned.estimated_energy_j == pytest.approx(row["energy_j"], rel=0.5)


def test_paired_trials_and_repeated_prompts_are_planned_for(gpus: list[GpuInfo]) -> None:
    short = {"num_output_tokens": 800, "num_requests": 8, "num_prompt_tokens": 8}
    plan = make_plan(gpus, task=[SYNTHETIC | short | {"phases": "output_lengths"}], read_only=True, min_window_s=0.0)
    one, half, whole = sorted(trial.estimated_energy_j for trial in plan.trials)
    assert one < 0.02 * whole
    assert half == pytest.approx(whole / 2, rel=0.05)
    alone = {"task": [SYNTHETIC | {"repeat_each_s": 5.0}], "axes": {"concurrency": [1]}, "min_window_s": 0.0}
    [trial] = make_plan(gpus, **alone).trials
    assert trial.estimated_duration_s == pytest.approx(40 * 5.0, rel=0.15)


def test_a_longest_window_and_requests_a_slot_are_planned_for(gpus: list[GpuInfo]) -> None:
    alone: dict[str, Any] = {"axes": {"concurrency": [1]}, "task": [SYNTHETIC | {"num_requests": 4000}]}
    [whole], [capped] = make_plan(gpus, **alone).trials, make_plan(gpus, **alone, max_window_s=60.0).trials
    assert whole.estimated_duration_s > 600
    assert capped.estimated_duration_s == pytest.approx(60, abs=3)
    assert capped.estimated_energy_j < 0.1 * whole.estimated_energy_j
    assert make_plan(gpus, max_window_s=60.0).estimated_energy_j == make_plan(gpus).estimated_energy_j
    follows = {"task": [SYNTHETIC | {"num_requests": "10 per slot"}], "min_window_s": 0.0, "read_only": True}
    one, many = make_plan(gpus, axes={"concurrency": [1, 64]}, **follows).trials
    assert one.estimated_duration_s == pytest.approx(many.estimated_duration_s, rel=0.5)


def test_read_only_plans_the_default_point_alone(gpus: list[GpuInfo]) -> None:
    plan = make_plan(gpus, read_only=True)
    assert [trial.operating_point.sm_clock_mhz for trial in plan.trials] == [None]
    assert "clocks are read-only" in render(plan)


def test_an_unknown_task_or_shape_is_an_error(gpus: list[GpuInfo]) -> None:
    with pytest.raises(TaskError, match="boolqq"):
        make_plan(gpus, task=[{"name": "boolqq"}])
    with pytest.raises(ValueError, match="gpt-17"):
        make_plan(gpus, model=[{"id": "m", "twin": "gpt-17"}])


def test_the_plan_on_a_terminal_has_a_row_a_block_and_its_totals(gpus: list[GpuInfo]) -> None:
    plan = make_plan(gpus, axes={"concurrency": [1, 8], "sm_clock": ["default", "50%"]}, repeats=2)
    text = render(plan)
    assert "2 × Simulated NVIDIA H200" in text
    assert text.count("synthetic-128x64") == 2
    assert "990 ×2" in text
    assert "default ×4" in text  # two repeats and two sentinels
    assert "12 trials." in text
    assert "1 model, 1 task, 2 operating points, 2 repeats, 4 sentinels; in flight: 1, 8." in text


def estimate(gpus: list[GpuInfo], *, model: dict[str, Any] | None = None, **changes: Any) -> float:
    """Return the seconds of one trial at the default clock with `min_window_s = 0`."""
    axes = {"concurrency": [1], "sm_clock": ["default"]}
    models = [{"id": "m", "twin": "mistral-7b", **(model or {})}]
    (trial,) = make_plan(gpus, model=models, axes=axes, min_window_s=0.0, **changes).trials
    return trial.estimated_duration_s


def test_the_studys_tasks_are_estimated_without_their_data(gpus: list[GpuInfo]) -> None:
    whole = estimate(gpus, task=[{"name": "truthfulqa_gen"}])
    # 817 questions there are: a limit beyond them asks for no more.
    assert estimate(gpus, task=[{"name": "truthfulqa_gen", "limit": 5000}]) == whole
    part = estimate(gpus, task=[{"name": "truthfulqa_gen", "limit": 100}])
    assert part - OVERHEAD_S == pytest.approx((whole - OVERHEAD_S) * 101 / 818)  # with one request each to warm up
    # Two requests a question; four of them.
    two = estimate(gpus, task=[{"name": "boolq", "limit": 400}])
    four = estimate(gpus, task=[{"name": "hellaswag", "limit": 200}])
    assert two == pytest.approx(four, rel=0.3)


def test_answers_end_by_themselves_unless_their_length_is_fixed(gpus: list[GpuInfo]) -> None:
    task = [{"name": "truthfulqa_gen", "limit": 50}]
    natural = estimate(gpus, task=task)
    assert estimate(gpus, task=task, max_output_tokens=256) == natural
    assert estimate(gpus, task=task, max_output_tokens=10) < 0.5 * natural
    assert estimate(gpus, task=task, max_output_tokens=256, fixed_output_length=True) > 5 * natural


def test_a_prompt_beyond_the_model_is_cut_in_the_plan_too(gpus: list[GpuInfo]) -> None:
    task = [{"name": "narrativeqa", "limit": 20}]
    whole = estimate(gpus, task=task)
    cut = estimate(gpus, task=task, model={"engine": {"max_model_len": 2048}})
    assert cut < 0.1 * whole
