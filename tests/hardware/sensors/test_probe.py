"""What the probe finds of each kind of GPU, at rest and under a load, and what it reports as unknown."""

import json
import random
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.hardware.factory import open_nvml
from runner.hardware.gpu import GpuError, GpuLostError
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.sensors.probe import find_sensors, probe_sensors, refine_findings
from runner.hardware.sensors.watch import SensorWatch, WatchedSensors
from runner.hardware.simulated.faults import Fault, FaultyNvml, restamp
from runner.hardware.simulated.sensor_profiles import PROFILES
from runner.physics.gpu_state import Activity, GpuState
from runner.results.sensors import SensorFinding, SensorFindings, SensorName
from runner.spec.throttle import ThrottleReason
from runner.timebase import TimeSource, VirtualTime, WallTime


class WatchedNvml:
    """An NVML that records which of its functions are called."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self.calls: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvml"):
            self.calls.add(name)
        return getattr(self._nvml, name)


class FailingGpu:
    """A GPU with one reading that raises."""

    def __init__(self, gpu: NvmlGpu, reading: str, error: Exception) -> None:
        self._gpu, self._reading, self._error = gpu, reading, error

    def __getattr__(self, name: str) -> Any:
        if name != self._reading:
            return getattr(self._gpu, name)

        def fail(*_args: object) -> None:
            raise self._error

        return fail


def open_gpu(directory: Path, sensors: str, time_source: TimeSource | None = None) -> NvmlGpu:
    time_source = time_source or VirtualTime()
    gpu = NvmlGpu(open_nvml(f"sim:h200+{sensors}", time_source, directory), 0, read_only=True)
    time_source.sleep(1.0137 if isinstance(time_source, VirtualTime) else 0.0)
    return gpu


def probe(directory: Path, sensors: str, load: str) -> SensorFindings:
    time_source = VirtualTime()
    gpu = open_gpu(directory, sensors, time_source)
    rng = random.Random(0)
    stretches = {
        "rest": [],
        "step": [(1.53, 10.0, 650.0)],
        "bursts": [(0.3 * k + rng.uniform(0.0, 0.1), rng.uniform(0.02, 0.2), 600.0) for k in range(1, 20)],
    }[load]
    GpuState(directory / gpu.info.uuid).log_activity(
        Activity(
            start_ns=time_source.now_ns() + round(start_s * 1e9),
            end_ns=time_source.now_ns() + round((start_s + length_s) * 1e9),
            power_w=power_w,
            sm_clock_mhz=1980,
            mem_clock_mhz=3201,
            throttle_reasons=ThrottleReason.NONE,
        )
        for start_s, length_s, power_w in stretches
    )
    return probe_sensors(gpu, time_source)


@pytest.mark.parametrize(
    ("sensors", "power_source", "energy_source"),
    [
        ("volta", "samples", "trace"),
        ("a100", "average", "counter"),
        ("rtx3090", "average", "counter"),
        ("rtx5090", "instant", "counter"),
        ("h100", "instant", "counter"),
        ("h200", "samples", "trace"),
        ("counter-only", None, "counter"),
        ("average-only", "average", "trace"),
    ],
)
@pytest.mark.parametrize("load", ["rest", "step", "bursts"])
def test_the_best_sources_are_chosen(
    tmp_path: Path, sensors: str, load: str, power_source: str | None, energy_source: str
) -> None:
    found = probe(tmp_path, sensors, load)
    assert (found.power_source, found.energy_source) == (power_source, energy_source)
    for name, finding in found.sensors.items():
        assert finding.supported == (getattr(PROFILES[sensors], name) is not None)
        assert finding.supported or finding.reason


@pytest.mark.parametrize("sensors", PROFILES)
def test_no_finding_is_wrong_under_load(tmp_path: Path, sensors: str) -> None:
    """Check that periods are right to a percent, and windows are right or have a true upper bound."""
    for load in ("step", "bursts"):
        found = probe(tmp_path / load, sensors, load)
        for name, finding in found.sensors.items():
            habit = getattr(PROFILES[sensors], name)
            if finding.update_period_s is not None:
                assert finding.update_period_s == pytest.approx(habit.period_ns * 1e-9, rel=0.01), (load, name)
            if finding.averaging_window_s is not None:
                assert finding.averaging_window_s == pytest.approx(habit.window_ns * 1e-9), (load, name)
            if finding.averaging_window_max_s is not None:
                assert finding.averaging_window_max_s >= 0.99 * habit.window_ns * 1e-9, (load, name)
            if None in (finding.update_period_s, finding.averaging_window_s):
                assert finding.reason or not finding.supported


@pytest.mark.parametrize("load", ["step", "bursts"])
@pytest.mark.parametrize("sensors", ["h200", "h100", "rtx5090"])
def test_a_one_second_average_is_told_by_comparing_sources(tmp_path: Path, sensors: str, load: str) -> None:
    assert probe(tmp_path, sensors, load).sensors["average"].averaging_window_s == 1.0


def test_a_counter_that_adds_up_the_readings_is_told_from_one_that_sees_more(tmp_path: Path) -> None:
    blind = probe(tmp_path / "a", "a100", "bursts").sensors["counter"]
    assert blind.averaging_window_s is None
    assert blind.reason is not None
    assert "adds up" in blind.reason
    assert probe(tmp_path / "b", "h100", "bursts").sensors["counter"].averaging_window_s == pytest.approx(0.1)
    assert probe(tmp_path / "c", "h200", "step").sensors["counter"].averaging_window_s == pytest.approx(0.1)


def test_a_gpu_at_rest_keeps_its_averages_to_itself(tmp_path: Path) -> None:
    found = probe(tmp_path, "h200", "rest")
    assert found.sensors["samples"].update_period_s == pytest.approx(0.02, rel=0.01)
    assert found.sensors["samples"].buffer_length == 120
    assert found.sensors["instant"].update_period_s == pytest.approx(0.1)
    average = found.sensors["average"]
    assert (average.update_period_s, average.averaging_window_s) == (None, None)
    assert "did not change" in (average.reason or "")
    # An unknown window counts as the least favourable one.
    assert found.period_s("average") == 0.1
    assert found.averaging_window_s("average") == 1.0
    assert found.averaging_window_s("instant") == 0.0


@pytest.mark.parametrize("step_us", [-3, 3])
def test_samples_whose_stamps_shift_from_call_to_call_are_counted_once(tmp_path: Path, step_us: int) -> None:
    time_source = VirtualTime()
    nvml = open_nvml("sim:h200", time_source, tmp_path)
    faults = [Fault(functions=("nvmlDeviceGetSamples",), effect=restamp(step_us))]
    gpu = NvmlGpu(FaultyNvml(nvml, faults), 0, read_only=True)
    time_source.sleep(5.0)
    samples = probe_sensors(gpu, time_source).sensors["samples"]
    assert samples.update_period_s == pytest.approx(0.02, rel=0.01)
    assert samples.buffer_length == 120


def test_calls_cost_nothing_in_virtual_time_and_something_in_real_time(tmp_path: Path) -> None:
    assert probe(tmp_path / "virtual", "h200", "rest").sensors["counter"].call_us is None
    time_source = WallTime()
    began_ns = time_source.now_ns()
    found = probe_sensors(open_gpu(tmp_path / "real", "h200", time_source), time_source, seconds=0.3)
    for finding in found.sensors.values():
        assert finding.call_us is not None
        assert 0 < finding.call_us < (time_source.now_ns() - began_ns) / 1e3


def test_it_only_reads(tmp_path: Path) -> None:
    time_source = VirtualTime()
    nvml = WatchedNvml(open_nvml("sim", time_source, tmp_path))
    gpu = NvmlGpu(nvml, 0, read_only=False)
    nvml.calls.clear()
    probe_sensors(gpu, time_source)
    assert nvml.calls == {
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetSamples",
        "nvmlDeviceGetTotalEnergyConsumption",
    }


def test_findings_are_json(tmp_path: Path) -> None:
    found = probe(tmp_path, "h100", "step")
    read = json.loads(json.dumps(found.to_json()))
    assert read["sensors"]["average"]["averaging_window_s"] == 1.0
    assert read["sensors"]["samples"] == {
        "supported": False,
        "update_period_s": None,
        "averaging_window_s": None,
        "averaging_window_max_s": None,
        "buffer_length": None,
        "call_us": None,
        "reason": "nvmlDeviceGetSamples: not supported by this GPU or driver",
    }
    assert read["choice"]


def test_a_reading_that_fails_is_a_sensor_less_and_says_why(tmp_path: Path) -> None:
    time_source = VirtualTime()
    gpu = FailingGpu(open_gpu(tmp_path, "h200", time_source), "read_power_samples", GpuError("unknown error"))
    found = probe_sensors(gpu, time_source)  # type: ignore[arg-type]
    assert found.sensors["samples"].reason == "unknown error"
    assert (found.power_source, found.energy_source) == ("instant", "counter")


def test_a_lost_gpu_ends_the_probe(tmp_path: Path) -> None:
    time_source = VirtualTime()
    gpu = FailingGpu(open_gpu(tmp_path, "h200", time_source), "read_energy_counter_j", GpuLostError("gone"))
    with pytest.raises(GpuLostError):
        probe_sensors(gpu, time_source)  # type: ignore[arg-type]


def find(gpu: NvmlGpu, **sensors: SensorFinding) -> SensorFindings:
    """Return the findings of a GPU that has only these sensors."""
    names: tuple[SensorName, ...] = ("samples", "instant", "average", "counter")
    missing = SensorFinding(supported=False, reason="not there")
    found = {name: sensors.get(name, missing) for name in names}
    at_rest = find_sensors(WatchedSensors(info=gpu.info, sensors=dict.fromkeys(names, missing), updates={}))
    return refine_findings(gpu.info, at_rest, replace(at_rest, sensors=found))


def seen(period_s: float, window_s: float | None = None, **more: Any) -> SensorFinding:
    return SensorFinding(supported=True, update_period_s=period_s, averaging_window_s=window_s, **more)


@pytest.mark.parametrize(
    ("sensors", "power_source", "energy_source"),
    [
        # A window of a second makes no good trace, however often it changes.
        ({"samples": seen(0.02, 1.0), "instant": seen(0.1), "counter": seen(0.1)}, "instant", "counter"),
        ({"samples": seen(0.02, 1.0), "counter": seen(0.1)}, "samples", "counter"),
        ({"average": seen(0.02, 1.0), "counter": seen(0.1)}, "average", "counter"),
        ({"average": seen(0.02), "counter": seen(0.1)}, "average", "counter"),
        ({"average": seen(0.02, 0.02), "counter": seen(0.1)}, "average", "trace"),
        # 19.3 ms and 20.1 ms count as the same.
        ({"samples": seen(0.0201), "average": seen(0.0193, 0.01), "counter": seen(0.1)}, "samples", "trace"),
    ],
)
def test_the_choice_follows_how_far_a_reading_looks_back(
    tmp_path: Path, sensors: dict[str, SensorFinding], power_source: str, energy_source: str
) -> None:
    found = find(open_gpu(tmp_path, "h200"), **sensors)
    assert (found.power_source, found.energy_source) == (power_source, energy_source)


def test_two_watches_tell_more_than_one(tmp_path: Path) -> None:
    gpu = open_gpu(tmp_path, "h200")
    at_rest = find(
        gpu,
        samples=seen(0.02, buffer_length=119, call_us=700.0, reason="still"),
        instant=seen(0.1, 0.025, call_us=50.0),
        average=SensorFinding(supported=True, call_us=9.0, reason="did not change"),
        counter=SensorFinding(supported=False, reason="failed"),
    )
    under_load = find(
        gpu,
        samples=seen(0.0193, buffer_length=120, call_us=2000.0, averaging_window_max_s=0.04, reason="short"),
        instant=seen(0.1, call_us=90.0, reason="unclear"),
        average=SensorFinding(supported=False, reason="failed once"),
        counter=seen(0.1, 0.1, call_us=3000.0),
    )
    both = refine_findings(gpu.info, at_rest, under_load).sensors
    assert both["samples"] == seen(
        0.0193, buffer_length=120, call_us=700.0, averaging_window_max_s=0.04, reason="short"
    )
    assert both["instant"] == at_rest.sensors["instant"]
    assert both["average"] == at_rest.sensors["average"]
    assert both["counter"] == under_load.sensors["counter"]


def test_in_real_time_nothing_reads_once_the_watch_has_stopped(tmp_path: Path) -> None:
    time_source = WallTime()
    nvml = WatchedNvml(open_nvml("sim", time_source, tmp_path))
    with SensorWatch(NvmlGpu(nvml, 0, read_only=True), time_source) as watch:
        time.sleep(0.3)
        assert any(thread.name == "sensor-watch" for thread in threading.enumerate())
        watched = watch.stop()
        assert not any(thread.name == "sensor-watch" for thread in threading.enumerate())
        nvml.calls.clear()
        time.sleep(0.05)
        assert not nvml.calls
    assert len(watched.updates["samples"]) > 10
