"""A trial's row after each fault of the GPU and of its driver, compared with the exact energy of the simulation."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.analysis.window.trial_row import analyse_trial
from runner.hardware.clocks.journal import read_journal, write_journal
from runner.hardware.clocks.recovery import restore_leftover
from runner.hardware.gpu import GpuLostError, PermissionDeniedError
from runner.hardware.simulated.faults import (
    EVERY_CALL,
    EVERY_SETTING,
    Effect,
    Fault,
    fail,
    hold_back,
    lose,
    mislabel,
    step_back,
    stick,
)
from runner.hardware.simulated.module import SimulatedNvml
from runner.physics.gpu_state import GpuConditions
from runner.spec.throttle import ThrottleReason
from tests.execution.trial_contexts import VirtualContext, make_requests, open_context

COUNTER = ("nvmlDeviceGetTotalEnergyConsumption",)
SAMPLES = ("nvmlDeviceGetSamples",)
WINDOW_S = 12.0
"""Long enough for the counter alone."""
SECOND_NS = 1_000_000_000


@pytest.fixture
def context(tmp_path: Path) -> Iterator[VirtualContext]:
    with open_context(tmp_path) as opened:
        yield opened


class Trial:
    """One trial, with faults at set times after its window has opened."""

    def __init__(self, context: VirtualContext, **identity: Any) -> None:
        self._context = context
        self._identity = identity
        self._happen: list[tuple[float, Callable[[], None]]] = []

    def at(self, seconds: float, happen: Callable[[], None]) -> "Trial":
        self._happen.append((seconds, happen))
        return self

    def fault(self, functions: tuple[str, ...], effect: Effect, seconds: float, until: float = 1e9) -> "Trial":
        """Let calls fail between two times, in s after the window has opened."""

        def begin() -> None:
            now_ns = self._context.time_source.now_ns()
            end_ns = now_ns + round((until - seconds) * 1e9)
            self._context.nvml.faults.append(Fault(functions=functions, effect=effect, start_ns=now_ns, end_ns=end_ns))

        return self.at(seconds, begin)

    def row(self) -> dict[str, Any]:
        """Measure the trial and return its row. An energy that is not null must be right within 1 %."""

        def on_phase(phase: str) -> None:
            if phase == "measuring":
                for seconds, happen in self._happen:
                    _once(self._context, seconds, happen)

        measurement = self._context.measure(make_requests(), self._identity, min_window_s=WINDOW_S, on_phase=on_phase)
        row = analyse_trial(measurement).row
        truth_j = self._context.exact_energy_j(measurement.start_ns, measurement.end_ns)
        if row["energy_j"] is not None:
            assert row["energy_j"] == pytest.approx(truth_j, rel=0.01)
        return row


def _once(context: VirtualContext, seconds: float, happen: Callable[[], None]) -> None:
    """Call a function once after a time, in virtual seconds."""
    if seconds <= 0.0:
        happen()
        return
    cancel: list[Callable[[], None]] = []

    def run() -> None:
        cancel[0]()
        happen()

    cancel.append(context.time_source.every(seconds, run))


def befall(context: VirtualContext, **conditions: Any) -> Callable[[], None]:
    return lambda: context.state.change_conditions(GpuConditions(time_ns=context.time_source.now_ns(), **conditions))


# conditions of the GPU -----------------------------------------------------------------------------------------------


def test_nothing_wrong(context: VirtualContext) -> None:
    row = Trial(context, sm_clock_mhz_requested=990, power_limit_w_requested=500.0).row()
    assert row["verdicts"] == []
    assert (row["throttled_thermal_s"], row["throttled_power_s"]) == (0.0, 0.0)


def test_a_lock_that_is_ignored(context: VirtualContext) -> None:
    befall(context, ignores_locks=True)()
    row = Trial(context, sm_clock_mhz_requested=990).row()
    assert row["verdicts"] == ["clock_not_held", "power_capped"]  # as at the default clock
    assert (row["sm_clock_mhz"], row["settle_s"]) == (1980.0, None)


def test_a_lock_that_is_ignored_from_mid_window_on(context: VirtualContext) -> None:
    row = Trial(context, sm_clock_mhz_requested=990).at(4.0, befall(context, ignores_locks=True)).row()
    assert row["verdicts"] == ["clock_not_held", "power_capped"]
    assert row["settle_s"] < 0.5


@pytest.mark.parametrize(
    ("revert", "verdict"),
    [
        (lambda nvml, gpu: nvml.nvmlDeviceResetGpuLockedClocks(gpu), "clock_not_held"),
        (lambda nvml, gpu: nvml.nvmlDeviceSetGpuLockedClocks(gpu, 1500, 1500), "clock_not_held"),
        (lambda nvml, gpu: nvml.nvmlDeviceSetPowerManagementLimit(gpu, 700_000), "limit_reverted"),
    ],
)
def test_a_daemon_that_reverts_what_was_set(
    context: VirtualContext, tmp_path: Path, revert: Callable[[Any, Any], None], verdict: str
) -> None:
    daemon = SimulatedNvml("sim", context.time_source, tmp_path / "gpus")  # another process, with NVML of its own
    trial = Trial(context, sm_clock_mhz_requested=990, power_limit_w_requested=600.0)
    row = trial.at(3.0, lambda: revert(daemon, daemon.nvmlDeviceGetHandleByIndex(0))).row()
    assert row["verdicts"] == [verdict]


@pytest.mark.parametrize("reasons", [ThrottleReason.SOFTWARE_THERMAL, ThrottleReason.HARDWARE_THERMAL])
def test_a_gpu_that_is_too_hot(context: VirtualContext, reasons: int) -> None:
    hot, cool = befall(context, max_sm_clock_mhz=1410, slowdown_reasons=reasons), befall(context)
    row = Trial(context).at(2.0, hot).at(7.0, cool).row()
    assert row["verdicts"] == ["thermal_throttled"]
    assert row["throttled_thermal_s"] == pytest.approx(5.0, abs=0.2)
    assert row["throttled_fraction"] > 4.8 / row["duration_s"]  # prefill reaches the power cap, hot or not


def test_a_foreign_process(context: VirtualContext) -> None:
    alone = Trial(context).row()
    begin = befall(context, foreign_power_w=120.0, foreign_slowdown=1.3, foreign_process_ids=(4242,))
    row = Trial(context).at(3.0, begin).row()
    assert row["verdicts"] == ["foreign_process"]
    assert row["mean_power_w"] > alone["mean_power_w"]
    assert row["output_tokens_per_s"] < alone["output_tokens_per_s"]


# the driver ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_a_counter_that_sticks(context: VirtualContext, seconds: float) -> None:
    row = Trial(context).fault(COUNTER, stick(), seconds).row()
    assert (row["energy_source"], row["energy_counter_j"], row["verdicts"]) == ("trace", None, [])


def test_a_counter_that_stood_still_for_a_while_and_lost_it(context: VirtualContext) -> None:
    stopped_j: list[int] = []

    def lag(call: Callable[[], int]) -> int:
        true_mj = call()
        stopped_j.append(true_mj)
        return min(true_mj, stopped_j[0]) + max(true_mj - stopped_j[0] - 500_000, 0)

    row = Trial(context).fault(COUNTER, lag, 5.0).row()
    assert (row["energy_source"], row["verdicts"]) == ("trace", ["sources_disagree"])


@pytest.mark.parametrize("millijoules", [10_000_000, 1_500_000])
def test_a_counter_that_goes_backwards(context: VirtualContext, millijoules: int) -> None:
    """By more than the window's energy, and by so much less that it ends above where it began."""
    context.time_source.sleep(120.0)
    row = Trial(context).fault(COUNTER, step_back(millijoules), 6.0).row()
    assert (row["energy_source"], row["energy_counter_j"]) == ("trace", None)
    assert row["verdicts"] == ["counter_backwards"]


def test_a_counter_alone_that_goes_backwards_is_no_energy(context: VirtualContext) -> None:
    context.time_source.sleep(120.0)
    row = Trial(context).fault(SAMPLES, fail(999), 0.0).fault(COUNTER, step_back(1_500_000), 6.0).row()
    assert row["energy_j"] is None
    assert row.get("joules_per_output_token") is None
    assert row["verdicts"] == ["edge_uncovered", "counter_backwards"]


def test_a_counter_alone_that_sticks_is_no_energy(tmp_path: Path) -> None:
    with open_context(tmp_path, gpu_request="sim:h200+counter-only") as context:
        row = Trial(context).fault(COUNTER, stick(), 5.0).row()
    assert (row["energy_j"], row["verdicts"]) == (None, ["energy_unknown"])


@pytest.mark.parametrize(("delay_s", "source", "verdicts"), [(1.5, "trace", []), (3.0, "counter", ["edge_uncovered"])])
def test_samples_that_come_late(context: VirtualContext, delay_s: float, source: str, verdicts: list[str]) -> None:
    effect = hold_back(context.nvml.true_nvml, round(delay_s * 1e9))
    row = Trial(context).fault(SAMPLES, effect, 0.0).row()
    assert (row["energy_source"], row["verdicts"]) == (source, verdicts)


@pytest.mark.parametrize(("missing_s", "source", "verdicts"), [(0.2, "trace", []), (1.0, "counter", ["trace_gap"])])
def test_samples_that_are_missing(context: VirtualContext, missing_s: float, source: str, verdicts: list[str]) -> None:
    start_ns = context.time_source.now_ns() + 10 * SECOND_NS
    effect = lose(context.nvml.true_nvml, start_ns, start_ns + round(missing_s * 1e9))
    context.nvml.faults.append(Fault(functions=SAMPLES, effect=effect))
    row = Trial(context).row()
    assert row["start_ns"] < start_ns < row["start_ns"] + (row["duration_s"] - 1) * 1e9
    assert (row["energy_source"], row["verdicts"]) == (source, verdicts)


@pytest.mark.parametrize("value_type", [0, 6, 7, -1])
def test_samples_of_a_wrong_type(context: VirtualContext, value_type: int) -> None:
    row = Trial(context).fault(SAMPLES, mislabel(value_type), 4.0).row()
    assert (row["energy_source"], row["verdicts"]) == ("counter", ["edge_uncovered"])
    assert row["energy_trace_j"] is None


@pytest.mark.parametrize("code", [3, 13, 999])
def test_a_polled_source_that_is_lost_is_not_mixed_with_another(tmp_path: Path, code: int) -> None:
    with open_context(tmp_path, gpu_request="sim:h200+h100") as context:
        row = Trial(context).fault(("nvmlDeviceGetFieldValues",), fail(code), 6.0).row()
    assert (row["power_source"], row["energy_source"], row["energy_trace_j"]) == ("instant", "counter", None)
    assert row["verdicts"] == ["edge_uncovered"]
    assert row["num_power_samples"] == pytest.approx(60, abs=2)


@pytest.mark.parametrize("code", [1, 2, 10, 999])
@pytest.mark.parametrize(
    "function",
    [
        "nvmlDeviceGetSamples",
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetCurrentClocksEventReasons",
    ],
)
def test_a_call_that_fails_for_half_a_second_costs_nothing(context: VirtualContext, function: str, code: int) -> None:
    trial = Trial(context, sm_clock_mhz_requested=990)
    row = trial.fault((function,), fail(code), 4.0, until=4.5).row()
    assert (row["energy_source"], row["verdicts"]) == ("trace", [])
    assert None not in (row["energy_counter_j"], row["sm_clock_mhz"], row["temperature_c_end"])


def test_what_was_not_seen_for_half_the_window_is_not_known(context: VirtualContext) -> None:
    state = ("nvmlDeviceGetClockInfo", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetCurrentClocksEventReasons")
    row = Trial(context, sm_clock_mhz_requested=990).fault(state, fail(999), 6.0).row()
    assert row["verdicts"] == ["clock_not_held"]
    for name in ("sm_clock_mhz", "sm_clock_mhz_p05", "temperature_c_start", "temperature_c_end", "throttled_fraction"):
        assert row[name] is None, name


def test_a_gpu_that_is_lost(context: VirtualContext) -> None:
    trial = Trial(context, sm_clock_mhz_requested=990)
    with pytest.raises(GpuLostError, match=r"nvml(Device|Gpm)"):
        trial.fault(EVERY_CALL, fail(SimulatedNvml.NVML_ERROR_GPU_IS_LOST), 4.0).row()
    context.nvml.faults.clear()  # so that the trial context may put it back


def test_permission_that_is_lost_leaves_a_lock_only_as_long_as_nobody_may_reset_it(tmp_path: Path) -> None:
    def run() -> None:
        with open_context(tmp_path) as context:
            trial = Trial(context, sm_clock_mhz_requested=990)
            row = trial.fault(EVERY_SETTING, fail(SimulatedNvml.NVML_ERROR_NO_PERMISSION), 4.0).row()
            assert row["verdicts"] == []
            with pytest.raises(PermissionDeniedError, match="nvmlDevice"):
                Trial(context).row()  # at the default clock, which may no longer be set either

    with pytest.raises(PermissionDeniedError, match="nvmlDeviceReset"):
        run()
    (path,) = tmp_path.glob("*.json")
    journal = read_journal(path)
    assert journal is not None
    assert journal.changed == ("sm_clock",)
    dead = tuple(owner._replace(start_ticks=0) for owner in journal.owners)
    write_journal(path, replace(journal, owners=dead))
    assert "reset" in restore_leftover(tmp_path)[0].account
