"""Verdicts: codes that say why a trial's number should not be trusted. The parts of a trial enter, codes leave.

Each code is described once, here. docs/reading-results.md lists them with their conditions. `run/drift.py` adds the one
that takes several trials to see.
"""

from collections.abc import Collection
from typing import Literal, get_args

from runner.analysis.energy.account import EnergyAccount, SourceProblem
from runner.analysis.window.evidence import Evidence
from runner.analysis.window.flow import Flow
from runner.analysis.window.gpu_state import GpuState
from runner.analysis.window.times import Times
from runner.analysis.window.work import Work
from runner.results.measurement import Identity
from runner.spec.load import ClosedLoop, OpenLoop

Verdict = Literal[
    SourceProblem,
    "sources_disagree",
    "clock_not_held",
    "power_capped",
    "thermal_throttled",
    "temperature_drift",
    "limit_reverted",
    "foreign_process",
    "server_elsewhere",
    "memory_left_behind",
    "prefix_cache_not_reset",
    "concurrency_not_reached",
    "arrivals_late",
    "overloaded",
    "pace_overrun",
    "requests_failed",
    "sentinel_drift",
]

VERDICTS: dict[Verdict, str] = {
    "window_too_short": "the window was too short for its energy source: 100 updates, 20 averages of a slow one",
    "trace_gap": "power samples are missing inside the window",
    "edge_uncovered": "the power trace does not reach over both edges of the window",
    "counter_backwards": "the energy counter went backwards: the driver or the GPU was restarted meanwhile",
    "energy_unknown": "the GPU reported neither power nor an energy counter that moved",
    "sources_disagree": "power trace and energy counter differ by more than 2 % over the same interval",
    "clock_not_held": "the clock that ran is not the clock that was asked for",
    "power_capped": "the power limit overruled the clock that was asked for",
    "thermal_throttled": "the GPU slowed down because it was too hot",
    "temperature_drift": "the GPU's temperature changed too much inside the window",
    "limit_reverted": "the power limit at the end was not the one that had been set, or the one at the start",
    "foreign_process": "a process that is not ours was on the GPU",
    "server_elsewhere": "the server did not compute on this GPU, so the energy is not the server's",
    "memory_left_behind": "the engine before this one had ended and its memory was still held",
    "prefix_cache_not_reset": "prompts were answered from a prefix cache that the engine did not reset",
    "concurrency_not_reached": "fewer requests were in flight than asked for",
    "arrivals_late": "requests reached the engine later than they arrived: 95 % of them within more than 10 ms",
    "overloaded": "more requests arrived than were served, so that the queue grew until the window's end",
    "pace_overrun": "the real engine was slower than the simulated GPU that paces it",
    "requests_failed": "some requests failed, so the work was not the work that was asked for",
    "sentinel_drift": "the sentinels before and after this trial differ by more than 2 %",
}
assert set(VERDICTS) == set(get_args(Verdict))

RETRIED: frozenset[Verdict] = frozenset(
    {
        "trace_gap",
        "edge_uncovered",
        "counter_backwards",
        "sources_disagree",
        "clock_not_held",
        "thermal_throttled",
        "temperature_drift",
        "limit_reverted",
        "foreign_process",
        "prefix_cache_not_reset",
        "arrivals_late",
        "pace_overrun",
    }
)
"""Verdicts that may be gone when the trial is measured again. The others follow from what was asked for or what the GPU
lacks, last as long as the engine (memory_left_behind), or show only when the block is over (sentinel_drift)."""

MAX_DISAGREEMENT = 0.02
MAX_CLOCK_DEVIATION = 0.02
"""Share of the requested clock. From 750 MHz on, that is more than one step of 15 MHz."""
MAX_CAPPED_FRACTION = 0.05
MIN_CONCURRENCY_SHARE = 0.8
"""Of the load's concurrency, in the mean over the whole window with its ramp and its drain."""
MAX_ARRIVAL_LATENESS_S = 0.010
"""95 % of the requests of an open loop reach the engine within this time: a tenth of a short TTFT that one promises."""
MAX_QUEUE_GROWTH_SHARE = 0.02
"""Of the requests that arrived in the window."""
MAX_QUEUE_GROWTH_DEVIATIONS = 4.0
"""The number in the system wanders by the square root of its mean, and more if requests come in bursts. A growth of
fewer standard deviations than this is chance."""
MAX_PACE_LOST_SHARE = 0.01
MAX_THERMAL_SHARE = 0.01
"""Of the window, by the GPU's counter or by its throttle reasons. A cool GPU spends no time so."""
MAX_TEMPERATURE_CHANGE_C = 30.0
"""More than the step from the coolest operating point to the hottest makes, however long the window. So the GPU began
cold, its cooling failed, or another process heats it."""
MAX_LIMIT_CHANGE_W = 1.0
"""GPUs round a power limit. So small a difference has no effect."""


def can_retry(verdicts: Collection[str], lasting: Collection[str] = ()) -> bool:
    """Return whether measuring a trial again may give a sound one: every verdict on it may go away.

    Args:
        lasting: verdicts that do not go away with this engine.
    """
    return bool(verdicts) and RETRIED.difference(lasting).issuperset(verdicts)


def judge(
    identity: Identity,
    *,
    work: Work,
    times: Times,
    flow: Flow,
    account: EnergyAccount,
    gpu: GpuState,
    evidence: Evidence,
) -> list[Verdict]:
    """Return the verdicts on one trial, in the order of `VERDICTS`.

    A missing reading causes no verdict. The exceptions are a clock and a load that were asked for and never observed.
    """
    found: dict[Verdict, bool] = {problem: problem in account.problems for problem in get_args(SourceProblem)}
    found |= {
        "sources_disagree": abs(account.disagreement or 0.0) > MAX_DISAGREEMENT,
        "clock_not_held": _is_clock_off(identity, gpu),
        "power_capped": _is_capped(identity, evidence),
        "thermal_throttled": _is_too_hot(times, gpu, evidence),
        "temperature_drift": _is_drifting(gpu),
        "limit_reverted": _is_limit_reverted(identity, gpu, evidence),
        "foreign_process": bool(evidence.foreign_process_ids),
        "server_elsewhere": not evidence.engine_on_gpu,
        "memory_left_behind": evidence.memory_left_behind,
        # Where no prompt was found in the cache, keeping it has changed nothing. None: the engine does not tell.
        "prefix_cache_not_reset": not evidence.prefix_cache_reset and work.num_cached_tokens != 0,
        "concurrency_not_reached": _misses_load(identity, times),
        "arrivals_late": (flow.arrival_lateness_s_p95 or 0.0) > MAX_ARRIVAL_LATENESS_S,
        "overloaded": _is_overloaded(identity, work, times, flow, evidence),
        "pace_overrun": (times.pace_lost_s or 0.0) > MAX_PACE_LOST_SHARE * times.duration_s,
        "requests_failed": work.num_failed_requests > 0,
    }
    return [code for code in VERDICTS if found.get(code)]


def _is_clock_off(identity: Identity, gpu: GpuState) -> bool:
    asked_mhz, ran_mhz, slow_mhz = identity.operating_point.sm_clock_mhz, gpu.sm_clock_mhz, gpu.sm_clock_mhz_p05
    sm_off = asked_mhz is not None and (
        ran_mhz is None
        or abs(ran_mhz - asked_mhz) > MAX_CLOCK_DEVIATION * asked_mhz
        or (
            # Below a ceiling the clock rises again only once there is work.
            not identity.operating_point.sm_clock_is_ceiling
            and slow_mhz is not None
            and slow_mhz < (1 - 3 * MAX_CLOCK_DEVIATION) * asked_mhz
        )
    )
    asked_memory_mhz, ran_memory_mhz = identity.operating_point.mem_clock_mhz, gpu.mem_clock_mhz
    memory_off = asked_memory_mhz is not None and (
        ran_memory_mhz is None or abs(ran_memory_mhz - asked_memory_mhz) > MAX_CLOCK_DEVIATION * asked_memory_mhz
    )
    return sm_off or memory_off


def _is_capped(identity: Identity, evidence: Evidence) -> bool:
    """Return whether the power cap overruled a clock. At a limit that was asked for, the cap is what was asked for."""
    return (
        identity.operating_point.sm_clock_mhz is not None
        and identity.operating_point.power_limit_w is None
        and (evidence.capped_fraction or 0.0) > MAX_CAPPED_FRACTION
    )


def _is_too_hot(times: Times, gpu: GpuState, evidence: Evidence) -> bool:
    return (evidence.thermal_fraction or 0.0) > MAX_THERMAL_SHARE or (
        gpu.throttled_thermal_s or 0.0
    ) > MAX_THERMAL_SHARE * times.duration_s


def _is_drifting(gpu: GpuState) -> bool:
    start_c, end_c = gpu.temperature_c_start, gpu.temperature_c_end
    return start_c is not None and end_c is not None and abs(end_c - start_c) > MAX_TEMPERATURE_CHANGE_C


def _is_limit_reverted(identity: Identity, gpu: GpuState, evidence: Evidence) -> bool:
    limit_w, asked_w = gpu.power_limit_w, identity.operating_point.power_limit_w
    due_w = evidence.power_limit_w_start if asked_w is None else asked_w
    return limit_w is not None and due_w is not None and abs(limit_w - due_w) > MAX_LIMIT_CHANGE_W


def _misses_load(identity: Identity, times: Times) -> bool:
    load, mean = identity.load, times.concurrency_mean
    return isinstance(load, ClosedLoop) and (mean is None or mean < MIN_CONCURRENCY_SHARE * load.concurrency)


def _is_overloaded(identity: Identity, work: Work, times: Times, flow: Flow, evidence: Evidence) -> bool:
    """Return whether more requests arrived than were served: the queue kept growing, or did not end in time."""
    load, mean = identity.load, times.concurrency_mean
    if isinstance(load, ClosedLoop) or flow.queue_growth is None or mean is None:
        return False
    burstiness = load.burstiness if isinstance(load, OpenLoop) else 1.0
    deviation = (2 * mean * max(1 / burstiness, 1.0)) ** 0.5
    bound = max(MAX_QUEUE_GROWTH_SHARE * work.num_requests, MAX_QUEUE_GROWTH_DEVIATIONS * deviation)
    return evidence.unfinished or flow.queue_growth > bound
