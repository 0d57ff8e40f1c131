"""Energy of random loads, measured through the sensors of each kind of GPU, against the exact truth.

    python -m benchmarks.accuracy [--num-loads 200] [--seed 0]

A load is written into a simulated GPU's log of activity, so its energy is known to the last digit. Joulesweep measures
it in virtual time: the sensor probe (at rest and under a first load, as in a worker), the sampler, the counter's ticks
before and after the window, and `account_energy`. Two usual estimators poll nvmlDeviceGetPowerUsage ten times a second
for comparison: the trapezoid over the readings that changed, and the mean reading times the time.
"""

import argparse
import math
import random
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.loads import Stretch, draw_load
from runner.analysis.energy.account import account_energy, min_window_s
from runner.execution.worker.sensor_calibration import REST_BEFORE_S, SPELLS_S
from runner.hardware.factory import open_nvml
from runner.hardware.gpu import NotSupportedError
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.sensors.probe import find_sensors, probe_sensors, refine_findings
from runner.hardware.sensors.sampler import PowerSampler
from runner.hardware.sensors.watch import SensorWatch
from runner.hardware.simulated.sensor_profiles import PROFILES
from runner.physics.gpu_state import Activity, GpuState
from runner.results.measurement import CounterTick, Identity, Measurement, Placement
from runner.results.sensors import SensorFindings
from runner.spec.load import SINGLE
from runner.spec.throttle import ThrottleReason
from runner.timebase import VirtualTime

NUM_LOADS = 200
WINDOW_S = (5.0, 40.0)
FIRST_LOAD_W = 300.0, 700.0
"""Power of an engine at work: on an H200, small batches draw 300 to 510 W, large ones up to the limit."""
NAIVE_POLL_S = 0.1
IDENTITY = Identity(
    trial_id="0",
    block_id="0",
    model="none",
    task="none",
    request_kind="generate",
    load=SINGLE,
    repeat=0,
    is_sentinel=False,
)
PLACEMENT = Placement(gpu_uuids=(), gpu_name="", host="", fingerprint="", simulated=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One measured load. Errors are relative to the true energy; None if the GPU lacks the sensor."""

    kind: str
    window_s: float
    source: str
    error: float
    uncertainty: float
    """Half the width of the stated interval, relative to the true energy."""
    is_covered: bool
    """Whether the true energy lies within the stated uncertainty."""
    changed_error: float | None
    mean_error: float | None


def measure_profile(profile: str, num_loads: int = NUM_LOADS, seed: int = 0) -> list[Case]:
    """Measure random loads on an H200 with the sensors of a profile: [num_loads] cases, the same for a seed.

    Windows are at least as long as `account_energy` asks for. Their logarithm is uniform.
    """
    rng = random.Random(f"{seed} {profile}")
    with TemporaryDirectory() as folder:
        context = _Context(profile, Path(folder), rng)
        return [context.measure() for _ in range(num_loads)]


class _Context:
    """One simulated GPU that works through loads while it is measured."""

    def __init__(self, profile: str, state_dir: Path, rng: random.Random) -> None:
        self._rng = rng
        self._time_source = VirtualTime()
        nvml = open_nvml(f"sim:h200+{profile}", self._time_source, state_dir)
        self._gpu = NvmlGpu(nvml, 0, read_only=True)
        self._history = nvml.nvmlDeviceGetHandleByIndex(0).history
        self._state = GpuState(state_dir / self._gpu.info.uuid)
        self._time_source.sleep(2.0 + rng.random())  # past the NVIDIA driver's load, and out of step with its sensors
        self._sensors = self._watch_first_load(probe_sensors(self._gpu, self._time_source))
        self._time_source.sleep(rng.random())
        self._sampler = PowerSampler(self._gpu, self._time_source, sensors=self._sensors)
        self._sampler.start()
        energy_source = self._sensors.energy_source or "trace"
        self._shortest_s = max(WINDOW_S[0], min_window_s(energy_source, self._sensors))

    def _watch_first_load(self, at_rest: SensorFindings) -> SensorFindings:
        """Work and rest as under `watch_first_load`, without an engine."""
        with SensorWatch(self._gpu, self._time_source) as watch:
            self._time_source.sleep(REST_BEFORE_S)
            for work_s, rest_s in SPELLS_S:
                self._work([(work_s, self._rng.uniform(*FIRST_LOAD_W))])
                self._time_source.sleep(rest_s)
            watched = watch.stop()
        return refine_findings(self._gpu.info, at_rest, find_sensors(watched))

    def measure(self) -> Case:
        """Draw a load, run it, and measure it as a trial is measured."""
        rng, time_source = self._rng, self._time_source
        window_s = math.exp(rng.uniform(math.log(self._shortest_s), math.log(WINDOW_S[1])))
        kind, load = draw_load(rng, window_s)
        self._work(draw_load(rng, rng.uniform(0.2, 2.0))[1])  # the warm-up
        time_source.sleep(rng.uniform(0.0, 0.5))
        counter_start = self._mark_tick()
        start_ns = time_source.now_ns()
        naive: list[Stretch] = []
        cancel = time_source.every(NAIVE_POLL_S, lambda: self._poll_average(naive, start_ns))
        self._poll_average(naive, start_ns)
        self._work(load)
        cancel()
        end_ns = time_source.now_ns()
        counter_end = self._mark_tick()
        self._sampler.wait_covered(max(end_ns, counter_end.time_ns if counter_end else 0))
        measurement = Measurement(
            identity=IDENTITY,
            placement=PLACEMENT,
            start_ns=start_ns,
            end_ns=end_ns,
            completions=[],
            steps=[],
            power=self._sampler.take(),
            counter_start=counter_start,
            counter_end=counter_end,
            idle_power_w=None,
            sensors=self._sensors,
        )
        account = account_energy(measurement)
        assert not account.problems, account.problems
        truth_j = self._history.energy_j(end_ns) - self._history.energy_j(start_ns)
        energy = account.energy
        assert energy.energy_j is not None
        assert energy.energy_uncertainty_j is not None
        source = f"{energy.power_source}" if energy.energy_source == "trace" else "counter"
        if source == "counter" and energy.power_source:
            source += f" + {energy.power_source}"
        length_s = (end_ns - start_ns) * 1e-9
        return Case(
            kind=kind,
            window_s=length_s,
            source=source,
            error=energy.energy_j / truth_j - 1,
            uncertainty=energy.energy_uncertainty_j / truth_j,
            is_covered=abs(energy.energy_j - truth_j) <= energy.energy_uncertainty_j,
            changed_error=_trapezoid_over_changes(naive, length_s) / truth_j - 1 if naive else None,
            mean_error=float(np.mean([power_w for _, power_w in naive])) * length_s / truth_j - 1 if naive else None,
        )

    def _work(self, load: list[Stretch]) -> None:
        now_ns = self._time_source.now_ns()
        activities = []
        for seconds, power_w in load:
            end_ns = now_ns + round(seconds * 1e9)
            activities.append(
                Activity(
                    start_ns=now_ns,
                    end_ns=end_ns,
                    power_w=power_w,
                    sm_clock_mhz=1980,
                    mem_clock_mhz=3201,
                    throttle_reasons=ThrottleReason.NONE,
                )
            )
            now_ns = end_ns
        self._state.log_activity(activities)
        self._time_source.advance_to(now_ns)

    def _mark_tick(self) -> CounterTick | None:
        tick = self._sampler.mark_counter_tick()
        return CounterTick(time_ns=tick[0], energy_j=tick[1]) if tick else None

    def _poll_average(self, polls: list[Stretch], start_ns: int) -> None:
        try:
            reading = self._gpu.read_average_power()
        except NotSupportedError:
            return
        polls.append(((reading.time_ns - start_ns) * 1e-9, reading.power_w))


def _trapezoid_over_changes(polls: list[Stretch], length_s: float) -> float:
    kept = [poll for k, poll in enumerate(polls) if k == 0 or poll[1] != polls[k - 1][1]]
    times_s, powers_w = zip(*kept, (length_s, kept[-1][1]), strict=True)
    return float(np.trapezoid(powers_w, times_s))


# the table -----------------------------------------------------------------------------------------------------------


def describe(values: list[float]) -> tuple[float, float]:
    """Return the median and the 95th percentile of the errors' absolute values."""
    sizes = np.abs(values)
    return float(np.median(sizes)), float(np.percentile(sizes, 95))


def tabulate(cases_by_profile: dict[str, list[Case]]) -> str:
    """Return the table that `make bench` prints: errors and stated half-widths as median / 95th percentile."""
    lines = [
        f"{'sensors':<13} {'energy from':<18} {'loads':>5} {'window s':>9} {'error %':>12} {'stated %':>12} "
        f"{'covered':>8} {'changed only %':>15} {'mean x time %':>14}"
    ]
    for profile, cases in cases_by_profile.items():
        windows_s = [case.window_s for case in cases]
        naive = [
            [error for case in cases if (error := getattr(case, name)) is not None]
            for name in ("changed_error", "mean_error")
        ]
        shown = [_show(describe([getattr(case, name) for case in cases])) for name in ("error", "uncertainty")]
        shown += [_show(describe(errors)) if errors else "-" for errors in naive]
        covered = sum(case.is_covered for case in cases) / len(cases)
        lines.append(
            f"{profile:<13} {' '.join(sorted({case.source for case in cases})):<18} {len(cases):>5} "
            f"{f'{min(windows_s):.0f} to {max(windows_s):.0f}':>9} {shown[0]:>12} {shown[1]:>12} {covered:>8.1%} "
            f"{shown[2]:>15} {shown[3]:>14}"
        )
    return "\n".join(lines)


def _show(errors: tuple[float, float]) -> str:
    return " / ".join(f"{100 * error:.2f}" for error in errors)


def main() -> None:
    """Measure every profile and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-loads", type=int, default=NUM_LOADS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(tabulate({name: measure_profile(name, arguments.num_loads, arguments.seed) for name in PROFILES}))


if __name__ == "__main__":
    main()
