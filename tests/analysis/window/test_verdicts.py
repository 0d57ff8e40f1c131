"""Verdicts: each on both sides of its limit, and alone."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from runner.analysis.energy.account import EnergyAccount, SourceProblem, WindowEnergy
from runner.analysis.window.evidence import Evidence
from runner.analysis.window.flow import Flow
from runner.analysis.window.gpu_state import GpuState
from runner.analysis.window.times import Times
from runner.analysis.window.verdicts import RETRIED, VERDICTS, Verdict, can_retry, judge
from runner.analysis.window.work import Work
from runner.results.measurement import Identity
from runner.spec.load import ClosedLoop, OpenLoop
from runner.spec.operating_point import OperatingPoint
from tests.analysis.measurements import IDENTITY

SOUND: dict[str, Any] = {
    "load": ClosedLoop(concurrency=10),
    "operating_point": OperatingPoint(sm_clock_mhz=1000, mem_clock_mhz=3201),
    "duration_s": 20.0,
    "pace_lost_s": None,
    "concurrency_mean": 9.5,
    "sm_clock_mhz": 1000.0,
    "sm_clock_mhz_p05": 1000.0,
    "mem_clock_mhz": 3201.0,
    "power_limit_w": 700.0,
    "throttled_thermal_s": 0.0,
    "temperature_c_start": 50.0,
    "temperature_c_end": 52.0,
    "num_cached_tokens": 0,
    "num_failed_requests": 0,
    "disagreement": 0.001,
    "problems": (),
    "capped_fraction": 0.0,
    "thermal_fraction": 0.0,
    "power_limit_w_start": 700.0,
    "foreign_process_ids": frozenset(),
    "engine_on_gpu": True,
    "memory_left_behind": False,
    "prefix_cache_reset": True,
    "unfinished": False,
    "num_requests": 400,
    "queue_growth": None,
    "arrival_lateness_s_p95": None,
}
"""Fields of the parts of a sound trial."""


def judge_trial(**changes: Any) -> list[Verdict]:
    """The verdicts on a sound trial with some fields of its parts changed; a field not among them is unknown."""
    assert set(changes) <= set(SOUND)
    known = SOUND | changes

    def fill(part: type[Any]) -> dict[str, Any]:
        return {field.name: known.get(field.name) for field in fields(part)}

    return judge(
        Identity(**IDENTITY | {"load": known["load"], "operating_point": known["operating_point"]}),
        work=Work(**fill(Work)),
        times=Times(**fill(Times)),
        flow=Flow(**fill(Flow)),
        account=EnergyAccount(**fill(EnergyAccount) | {"energy": WindowEnergy(**fill(WindowEnergy))}),
        gpu=GpuState(**fill(GpuState)),
        evidence=Evidence(**fill(Evidence)),
    )


def asked(**values: Any) -> dict[str, Any]:
    """The operating point that was requested; by default the SM and the memory clock of the sound trial."""
    return {"operating_point": OperatingPoint(**{"sm_clock_mhz": 1000, "mem_clock_mhz": 3201} | values)}


OPEN = OpenLoop(request_rate_per_s=20.0)
ONE_OF_EACH: dict[str, dict[str, Any]] = {
    "window_too_short": {"problems": ["window_too_short"]},
    "trace_gap": {"problems": ["trace_gap"]},
    "edge_uncovered": {"problems": ["edge_uncovered"]},
    "counter_backwards": {"problems": ["counter_backwards"]},
    "energy_unknown": {"problems": ["energy_unknown"]},
    "sources_disagree": {"disagreement": 0.05},
    "clock_not_held": {"sm_clock_mhz": 900.0, "sm_clock_mhz_p05": 900.0},
    "power_capped": {"capped_fraction": 0.5},
    "thermal_throttled": {"throttled_thermal_s": 5.0},
    "temperature_drift": {"temperature_c_end": 85.0},
    "limit_reverted": {"power_limit_w": 500.0},
    "foreign_process": {"foreign_process_ids": frozenset({4711})},
    "server_elsewhere": {"engine_on_gpu": False},
    "memory_left_behind": {"memory_left_behind": True},
    "prefix_cache_not_reset": {"prefix_cache_reset": False, "num_cached_tokens": 640},
    "concurrency_not_reached": {"concurrency_mean": 5.0},
    "arrivals_late": {"load": OPEN, "queue_growth": 0.0, "arrival_lateness_s_p95": 0.02},
    "overloaded": {"load": OPEN, "queue_growth": 100.0},
    "pace_overrun": {"pace_lost_s": 2.0},
    "requests_failed": {"num_failed_requests": 1},
}
"""What alone earns a verdict; but for sentinel_drift, which takes several trials (test_drift.py)."""


def test_a_sound_row_has_no_verdict() -> None:
    assert judge_trial() == []


@pytest.mark.parametrize("code", ONE_OF_EACH)
def test_one_fault_earns_one_verdict(code: str) -> None:
    assert judge_trial(**ONE_OF_EACH[code]) == [code]


@pytest.mark.parametrize(
    ("growth", "burstiness", "unfinished", "verdicts"),
    [
        # At 9.5 in the system four standard deviations are 17.4; 2 % of 400 requests are 8.
        (17.0, 1.0, False, []),
        (18.0, 1.0, False, ["overloaded"]),
        (18.0, float("inf"), False, ["overloaded"]),
        (50.0, 0.1, False, []),  # in bursts the number wanders further
        (56.0, 0.1, False, ["overloaded"]),
        (0.0, 1.0, True, ["overloaded"]),
    ],
)
def test_overloaded(growth: float, burstiness: float, unfinished: bool, verdicts: list[Verdict]) -> None:
    load = OpenLoop(request_rate_per_s=20.0, burstiness=burstiness)
    assert judge_trial(load=load, queue_growth=growth, unfinished=unfinished) == verdicts


def test_an_open_loop_has_no_concurrency_to_reach() -> None:
    assert judge_trial(load=OPEN, concurrency_mean=0.3, queue_growth=0.0) == []


@pytest.mark.parametrize(("lateness_s", "verdicts"), [(0.0099, []), (0.0101, ["arrivals_late"])])
def test_arrivals_late(lateness_s: float, verdicts: list[Verdict]) -> None:
    assert judge_trial(load=OPEN, queue_growth=0.0, arrival_lateness_s_p95=lateness_s) == verdicts


@pytest.mark.parametrize("problem", get_args(SourceProblem))
def test_what_is_wrong_with_a_source_is_a_verdict(problem: Verdict) -> None:
    assert judge_trial(problems=[problem]) == [problem]


@pytest.mark.parametrize(
    ("disagreement", "verdicts"),
    [
        (None, []),
        (0.0199, []),
        (-0.0199, []),
        (0.0201, ["sources_disagree"]),
        (-0.0201, ["sources_disagree"]),
    ],
)
def test_sources_disagree(disagreement: float | None, verdicts: list[Verdict]) -> None:
    assert judge_trial(disagreement=disagreement) == verdicts


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({"sm_clock_mhz": 980.0}, []),
        ({"sm_clock_mhz": 979.0}, ["clock_not_held"]),
        ({"sm_clock_mhz": 1020.0}, []),
        ({"sm_clock_mhz": 1021.0}, ["clock_not_held"]),
        ({"sm_clock_mhz_p05": 940.0}, []),
        ({"sm_clock_mhz_p05": 939.0}, ["clock_not_held"]),
        ({"sm_clock_mhz": None, "sm_clock_mhz_p05": None}, ["clock_not_held"]),  # asked for and never seen
        (asked(sm_clock_mhz=None) | {"sm_clock_mhz": 345.0, "sm_clock_mhz_p05": 345.0}, []),
        ({"mem_clock_mhz": 3140.0}, []),
        ({"mem_clock_mhz": 2201.0}, ["clock_not_held"]),
        ({"mem_clock_mhz": None}, ["clock_not_held"]),
        (asked(mem_clock_mhz=None) | {"mem_clock_mhz": 2201.0}, []),
    ],
)
def test_clock_not_held(changes: dict[str, Any], verdicts: list[Verdict]) -> None:
    assert judge_trial(**changes) == verdicts


@pytest.mark.parametrize(
    ("changes", "capped_fraction", "verdicts"),
    [
        ({}, 0.05, []),
        ({}, 0.051, ["power_capped"]),
        ({}, None, []),
        (asked(sm_clock_mhz=None), 1.0, []),  # the default is whatever the cap leaves
        (asked(power_limit_w=400.0) | {"power_limit_w": 400.0}, 1.0, []),  # the cap was asked for
    ],
)
def test_power_capped(changes: dict[str, Any], capped_fraction: float | None, verdicts: list[Verdict]) -> None:
    assert judge_trial(**changes, capped_fraction=capped_fraction) == verdicts


@pytest.mark.parametrize(
    ("throttled_thermal_s", "thermal_fraction", "verdicts"),
    [
        (0.2, 0.01, []),  # 1 % of 20 s, by either
        (0.201, 0.0, ["thermal_throttled"]),  # between two readings, and counted
        (0.0, 0.011, ["thermal_throttled"]),
        (None, 0.011, ["thermal_throttled"]),
        (0.201, None, ["thermal_throttled"]),
        (None, None, []),
    ],
)
def test_thermal_throttled(
    throttled_thermal_s: float | None, thermal_fraction: float | None, verdicts: list[Verdict]
) -> None:
    assert judge_trial(throttled_thermal_s=throttled_thermal_s, thermal_fraction=thermal_fraction) == verdicts


@pytest.mark.parametrize(
    ("start_c", "end_c", "verdicts"),
    [
        (50.0, 80.0, []),
        (50.0, 81.0, ["temperature_drift"]),
        (81.0, 50.0, ["temperature_drift"]),
        (None, None, []),
    ],
)
def test_temperature_drift(start_c: float | None, end_c: float | None, verdicts: list[Verdict]) -> None:
    assert judge_trial(temperature_c_start=start_c, temperature_c_end=end_c) == verdicts


@pytest.mark.parametrize(
    ("asked_w", "start_w", "end_w", "verdicts"),
    [
        (None, 700.0, 700.0, []),
        (None, 650.0, 650.0, []),  # what the administrator had set is the default
        (None, 700.0, 698.9, ["limit_reverted"]),
        (400.0, 400.0, 399.4, []),  # rounded by the GPU
        (400.0, 700.0, 700.0, ["limit_reverted"]),  # before the window opened
        (400.0, 400.0, 700.0, ["limit_reverted"]),  # while it was open
        (400.0, 400.0, None, []),
        (None, None, 700.0, []),
    ],
)
def test_limit_reverted(
    asked_w: float | None, start_w: float | None, end_w: float | None, verdicts: list[Verdict]
) -> None:
    changes = asked(power_limit_w=asked_w) | {"power_limit_w": end_w, "power_limit_w_start": start_w}
    assert judge_trial(**changes) == verdicts


def test_foreign_process() -> None:
    assert judge_trial(foreign_process_ids=frozenset({4711})) == ["foreign_process"]


def test_memory_left_behind() -> None:
    assert judge_trial(memory_left_behind=True) == ["memory_left_behind"]


@pytest.mark.parametrize(
    ("prefix_cache_reset", "num_cached_tokens", "verdicts"),
    [
        (True, 640, []),  # asked for, and of this window's own prompts
        (False, 640, ["prefix_cache_not_reset"]),
        (False, None, ["prefix_cache_not_reset"]),
        (False, 0, []),  # kept, and no prompt was found in it
    ],
)
def test_prefix_cache_not_reset(
    prefix_cache_reset: bool, num_cached_tokens: int | None, verdicts: list[Verdict]
) -> None:
    found = judge_trial(num_cached_tokens=num_cached_tokens, prefix_cache_reset=prefix_cache_reset)
    assert found == verdicts


@pytest.mark.parametrize(
    ("concurrency_mean", "verdicts"),
    [(8.0, []), (7.99, ["concurrency_not_reached"]), (None, ["concurrency_not_reached"])],
)
def test_concurrency_not_reached(concurrency_mean: float | None, verdicts: list[Verdict]) -> None:
    assert judge_trial(concurrency_mean=concurrency_mean) == verdicts


@pytest.mark.parametrize(("pace_lost_s", "verdicts"), [(None, []), (0.2, []), (0.201, ["pace_overrun"])])
def test_pace_overrun(pace_lost_s: float | None, verdicts: list[Verdict]) -> None:
    assert judge_trial(pace_lost_s=pace_lost_s) == verdicts


@pytest.mark.parametrize(("num_failed_requests", "verdicts"), [(0, []), (1, ["requests_failed"])])
def test_requests_failed(num_failed_requests: int, verdicts: list[Verdict]) -> None:
    assert judge_trial(num_failed_requests=num_failed_requests) == verdicts


def test_several_verdicts_stand_in_the_order_of_the_list() -> None:
    changes = {"num_failed_requests": 3, "concurrency_mean": 1.0, "sm_clock_mhz": 500.0}
    problems = ["counter_backwards", "window_too_short"]
    found = judge_trial(**changes, disagreement=0.1, problems=problems, capped_fraction=1.0)
    assert found == [
        "window_too_short",
        "counter_backwards",
        "sources_disagree",
        "clock_not_held",
        "power_capped",
        "concurrency_not_reached",
        "requests_failed",
    ]


@pytest.mark.parametrize("code", VERDICTS)
def test_a_retry_helps_where_what_was_wrong_may_pass(code: Verdict) -> None:
    lasting = {
        "window_too_short",
        "energy_unknown",
        "power_capped",
        "server_elsewhere",
        "memory_left_behind",
        "concurrency_not_reached",
        "overloaded",
        "requests_failed",
        "sentinel_drift",
    }
    assert can_retry([code]) == (code not in lasting)


def test_one_lasting_verdict_is_enough_to_leave_a_trial_alone() -> None:
    assert can_retry(["trace_gap", "clock_not_held"])
    assert not can_retry(["clock_not_held", "power_capped"])  # the cap would overrule it again
    assert not can_retry([])


def test_what_lasts_as_long_as_the_engine_is_not_retried() -> None:
    lasting = {"prefix_cache_not_reset"}
    assert not can_retry(["prefix_cache_not_reset"], lasting)
    assert not can_retry(["trace_gap", "prefix_cache_not_reset"], lasting)
    assert can_retry(["trace_gap"], lasting)


def test_the_load_says_how_many_requests_are_to_be_in_flight() -> None:
    assert judge_trial(concurrency_mean=3.2, load=ClosedLoop(concurrency=4)) == []
    assert judge_trial(concurrency_mean=3.2, load=ClosedLoop(concurrency=5)) == ["concurrency_not_reached"]


def test_every_verdict_is_explained() -> None:
    assert set(VERDICTS) >= RETRIED
    assert set(VERDICTS) == set(get_args(Verdict))
    assert all(len(meaning.split()) >= 4 for meaning in VERDICTS.values())
    assert len(set(VERDICTS.values())) == len(VERDICTS)


def test_code_documentation_and_tests_know_the_same_verdicts() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reading-results.md").read_text(encoding="utf-8")
    lines = page.partition("| code | when | retry |\n")[2].partition("\n\n")[0].splitlines()[1:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0].strip("`") for row in rows] == [*ONE_OF_EACH, "sentinel_drift"] == [*VERDICTS]
    assert {row[0].strip("`") for row in rows if row[-1]} == RETRIED
    assert {row[-1] for row in rows} == {"yes", ""}
