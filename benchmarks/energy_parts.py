"""The readings that split a joule, on one GPU: what they cost, whether they agree, and whether they add up.

    python -m benchmarks.energy_parts [--gpu nvidia] [--seconds 30] [--load none|product|copy]

It reads only: nothing of the GPU is set. First it times each call. Then it opens one window and reads the activity
counters at its edges and every second in between. The mean of the seconds must be what the window says. The memory's
energy must be a part of the GPU's. With `--load` this process gives the GPU work through PyTorch meanwhile. The answer
is lines of text, and JSON in the last one.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

from runner.analysis.energy.account import account_energy
from runner.analysis.energy.memory import estimate_memory_energy
from runner.hardware.factory import is_simulated, open_nvml
from runner.hardware.gpu import Gpu, GpuError
from runner.hardware.host.meter import find_host_meter
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.sensors.probe import probe_sensors
from runner.hardware.sensors.sampler import PowerSampler
from runner.hardware.sensors.window_meters import WindowMeters
from runner.results.measurement import CounterTick, Identity, Measurement, Placement
from runner.spec.activity import UnitActivity
from runner.spec.load import SINGLE
from runner.timebase import WallTime

NUM_CALLS = 50
CALL_GAP_S = 0.02
UNITS = ("tensor_active_fraction", "dram_active_fraction", "sm_active_fraction")
LOADS = ("none", "product", "copy")
_IDENTITY = Identity(
    trial_id="0", block_id="0", model="none", task="none", request_kind="generate", load=SINGLE, repeat=0,
    is_sentinel=False,
)  # fmt: skip


def describe_costs(gpu_request: str) -> str:
    """Return the median and the longest time of each call, in µs, a line each."""
    with _open(gpu_request) as gpu:
        lines = [f"{name}: {cost}" for name, cost in _time_calls(gpu).items()]
    return ("\n" + 19 * " ").join(lines)


@contextmanager
def _open(gpu_request: str) -> Iterator[Gpu]:
    with TemporaryDirectory() as folder:
        state_dir = Path(folder) if is_simulated(gpu_request) else None
        yield NvmlGpu(open_nvml(gpu_request, WallTime(), state_dir), 0, read_only=True)


def _time_calls(gpu: Gpu) -> dict[str, str]:
    host = find_host_meter(WallTime())
    calls: dict[str, Callable[[], Any]] = {
        "clocks, temperature, reasons": gpu.read_state,
        "power of the memory": gpu.read_memory_power,
        "activity, one sample": gpu.mark_activity,
        "activity, between two samples": _compare_activity(gpu),
        "energy of the host": host.read,
    }
    costs = {name: _time_call(call) for name, call in calls.items()}
    if (reason := host.read().reason) is not None:
        costs["energy of the host"] = f"none ({reason})"
    return costs


def _compare_activity(gpu: Gpu) -> Callable[[], UnitActivity]:
    marks = []
    with suppress(GpuError):  # then the call itself says so
        marks.append(gpu.mark_activity())
        time.sleep(0.2)
        marks.append(gpu.mark_activity())
    return lambda: gpu.read_activity(*marks) if len(marks) == 2 else gpu.read_activity(gpu.mark_activity(), *marks)


def _time_call(call: Callable[[], Any]) -> str:
    times_us = []
    for _ in range(NUM_CALLS):
        start_ns = time.perf_counter_ns()
        try:
            call()
        except GpuError as error:
            return f"none ({error})"
        times_us.append((time.perf_counter_ns() - start_ns) * 1e-3)
        time.sleep(CALL_GAP_S)
    return f"{median(times_us):.0f} us, {max(times_us):.0f} us at worst"


def measure_window(gpu: Gpu, seconds: float) -> dict[str, Any]:
    """Open one window, and return what is known of its energy and its activity, by column."""
    time_source = WallTime()
    sensors = probe_sensors(gpu, time_source)
    sampler = PowerSampler(gpu, time_source, sensors=sensors)
    host = find_host_meter(time_source)
    sampler.start()
    time.sleep(2.0)
    first = sampler.mark_counter_tick()
    meters, start_ns = WindowMeters(gpu, host), time_source.now_ns()
    by_second = []
    for _ in range(round(seconds)):
        one = WindowMeters(gpu, host)
        time.sleep(1.0)
        by_second.append(one.finish(host_idle_power_w=None, memory_power_reason=None).activity)
    end_ns = time_source.now_ns()
    readings = meters.finish(host_idle_power_w=None, memory_power_reason=sampler.memory_power_reason)
    last = sampler.mark_counter_tick()
    sampler.wait_covered(max(end_ns, last[0] if last else 0))
    sampler.wait_memory_covered(end_ns)
    sampler.stop()
    measurement = Measurement(
        identity=_IDENTITY,
        placement=Placement(
            gpu_uuids=(), gpu_name=gpu.info.name, host="", fingerprint="", simulated=gpu.info.simulated
        ),
        start_ns=start_ns,
        end_ns=end_ns,
        completions=[],
        steps=[],
        power=sampler.take(),
        counter_start=CounterTick(time_ns=first[0], energy_j=first[1]) if first else None,
        counter_end=CounterTick(time_ns=last[0], energy_j=last[1]) if last else None,
        idle_power_w=None,
        meters=readings,
        sensors=sensors,
    )
    energy, memory = account_energy(measurement).energy, estimate_memory_energy(measurement)
    return {
        "gpu_name": gpu.info.name,
        "driver_version": gpu.info.driver_version,
        "duration_s": (end_ns - start_ns) * 1e-9,
        "energy_j": energy.energy_j,
        "energy_uncertainty_j": energy.energy_uncertainty_j,
        "energy_counter_j": energy.energy_counter_j,
        "memory_energy_j": memory.memory_energy_j,
        "memory_energy_uncertainty_j": memory.memory_energy_uncertainty_j,
        "memory_energy_reason": memory.memory_energy_reason,
        "window": {name: getattr(readings.activity, name) for name in (*UNITS, "activity_reason")},
        "mean_of_seconds": {name: _mean([getattr(activity, name) for activity in by_second]) for name in UNITS},
        "host_energy_j": readings.host.energy_j,
        "host_energy_reason": readings.host.reason,
        "max_lateness_s": sampler.stats.max_lateness_s,
        "num_failed_reads": sampler.stats.num_failed_reads,
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) and known else None


@contextmanager
def _working(load: str) -> Iterator[None]:
    """Let a thread give the first GPU that CUDA shows work: large bf16 products, or copies inside its memory."""
    if load == "none":
        yield
        return
    import torch

    stopping = threading.Event()
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty(2**31, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)

    def work() -> None:
        while not stopping.is_set():
            for _ in range(20):
                torch.matmul(a, b) if load == "product" else target.copy_(source)
            torch.cuda.synchronize()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def main() -> None:
    """Time the calls, measure one window, and print both."""
    parser = argparse.ArgumentParser(description="Time and check the readings that split a joule. Nothing is set.")
    parser.add_argument("--gpu", default="sim", help="nvidia for the first real GPU; sim by default")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the window, 4 s at least")
    parser.add_argument("--load", choices=LOADS, default="none", help="what PyTorch does meanwhile")
    arguments = parser.parse_args()
    with _open(arguments.gpu) as gpu, _working(arguments.load):
        for name, cost in _time_calls(gpu).items():
            print(f"{name:<32} {cost}", flush=True)
        print(json.dumps(measure_window(gpu, max(arguments.seconds, 4.0))))


if __name__ == "__main__":
    main()
