"""The power sampler: exact in virtual time, robust in real time."""

import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from runner.hardware.factory import open_nvml
from runner.hardware.gpu import GpuError, GpuLostError, NotSupportedError
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.sensors.sampler import TICK_S, PowerSampler
from runner.physics.gpu_state import Activity, GpuState
from runner.results.tables import POWER
from runner.spec.throttle import ThrottleReason
from runner.timebase import TimeSource, VirtualTime, WallTime
from tests.hardware.owners import wait_until


class FlakyGpu:
    """An `NvmlGpu` whose readings raise while `errors` names them."""

    def __init__(self, gpu: NvmlGpu) -> None:
        self._gpu = gpu
        self.errors: dict[str, Exception] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self.errors:

            def fail(*_args: object) -> None:
                raise self.errors[name]

            return fail
        return getattr(self._gpu, name)


def open_gpu(time_source: TimeSource, state_dir: Path) -> FlakyGpu:
    return FlakyGpu(NvmlGpu(open_nvml("sim", time_source, state_dir), 0, read_only=True))


def work(gpu: FlakyGpu, state_dir: Path, start_ns: int, seconds: float, power_w: float) -> None:
    GpuState(state_dir / gpu.info.uuid).log_activity(
        [
            Activity(
                start_ns=start_ns,
                end_ns=start_ns + round(seconds * 1e9),
                power_w=power_w,
                sm_clock_mhz=1980,
                mem_clock_mhz=3201,
                throttle_reasons=ThrottleReason.NONE,
            )
        ]
    )


def trapezoid_j(frame: pl.DataFrame) -> float:
    rows = frame.drop_nulls("power_w").select("time_ns", "power_w").rows()
    return sum((t1 - t0) * 1e-9 * (p0 + p1) / 2 for (t0, p0), (t1, p1) in pairwise(rows))


def test_rows_hold_what_was_read_and_null_elsewhere(tmp_path: Path) -> None:
    time_source = VirtualTime()
    gpu = open_gpu(time_source, tmp_path)
    sampler = PowerSampler(gpu, time_source)
    start_ns = time_source.now_ns()
    sampler.start()
    work(gpu, tmp_path, start_ns, 20.0, 300.0)
    time_source.sleep(10.0)
    sampler.stop()
    frame = sampler.take()
    assert dict(frame.schema) == POWER
    assert frame["time_ns"].is_sorted()
    assert frame["gpu_uuid"].unique().to_list() == ["GPU-SIM-H200-0"]
    powers, clocks, counters, memory = (
        frame.drop_nulls(c) for c in ("power_w", "sm_clock_mhz", "energy_counter_total_j", "memory_power_w")
    )
    assert (powers.height, clocks.height, counters.height, memory.height) == (500, 100, 10, 100)
    assert frame.height == 710
    assert (memory["time_ns"] - start_ns).to_list() == [100_000_000 * i for i in range(1, 101)]
    assert memory["memory_power_w"].unique().to_list() == [55.0]
    assert sampler.memory_power_reason is None
    assert powers["power_w"].unique().to_list() == [300.0]
    assert powers["sm_clock_mhz"].null_count() == powers.height
    assert clocks["event_reasons"].null_count() == 0
    assert (clocks["time_ns"] - start_ns).to_list() == [100_000_000 * i for i in range(1, 101)]
    assert counters["energy_counter_total_j"].to_list() == [300.0 * i for i in range(1, 11)]
    assert sampler.take().is_empty()
    stats = sampler.stats
    assert (stats.num_samples, stats.num_lost, stats.num_failed_reads, stats.max_lateness_s) == (500, 0, 0, 0.0)
    assert stats.sample_period_s == pytest.approx(0.02, rel=0.02)


def test_trace_agrees_with_the_counter_from_tick_to_tick(tmp_path: Path) -> None:
    time_source = VirtualTime()
    gpu = open_gpu(time_source, tmp_path)
    sampler = PowerSampler(gpu, time_source)
    sampler.start()
    time_source.sleep(1.037)
    begin = sampler.mark_counter_tick()
    for i in range(200):  # bursts, as prefill and decoding alternate
        work(gpu, tmp_path, time_source.now_ns(), 0.05, 700.0 if i % 3 == 0 else 350.0)
        time_source.sleep(0.05)
    end = sampler.mark_counter_tick()
    assert begin is not None
    assert end is not None
    assert sampler.wait_covered(end[0])
    frame = sampler.take().filter(pl.col("time_ns").is_between(begin[0], end[0]))
    assert trapezoid_j(frame) == pytest.approx(end[1] - begin[1], rel=0.01)


def test_counter_tick_is_found_within_a_poll(tmp_path: Path) -> None:
    time_source = VirtualTime()
    gpu = open_gpu(time_source, tmp_path)
    loaded_ns = time_source.now_ns()
    sampler = PowerSampler(gpu, time_source)
    sampler.start()
    time_source.sleep(1.234)
    mark = sampler.mark_counter_tick()
    assert mark is not None
    assert abs(mark[0] - (loaded_ns + 1_300_000_000)) <= 1_000_000
    assert mark[1] == pytest.approx(79 * 1.3)
    sampler.stop()
    assert mark in sampler.take().select("time_ns", "energy_counter_total_j").rows()


@pytest.mark.parametrize("error", [NotSupportedError("no counter"), GpuError("unknown")])
def test_a_gpu_without_a_counter_has_no_tick(tmp_path: Path, error: Exception) -> None:
    time_source = VirtualTime()
    gpu = open_gpu(time_source, tmp_path)
    gpu.errors["read_energy_counter_j"] = error
    sampler = PowerSampler(gpu, time_source)
    sampler.start()
    assert sampler.mark_counter_tick() is None
    time_source.sleep(3.0)
    assert sampler.error is None
    assert sampler.take()["energy_counter_total_j"].null_count() > 0
    assert sampler.stats.num_failed_reads == (0 if isinstance(error, NotSupportedError) else 4)


def test_a_counter_that_stands_still_has_no_tick(tmp_path: Path) -> None:
    time_source = VirtualTime()
    gpu = open_gpu(time_source, tmp_path)
    gpu.read_energy_counter_j = lambda: 5.0
    began_ns = time_source.now_ns()
    assert PowerSampler(gpu, time_source).mark_counter_tick() is None
    assert 0.25 <= (time_source.now_ns() - began_ns) * 1e-9 < 0.3


def test_waiting_for_cover(tmp_path: Path) -> None:
    time_source = VirtualTime()
    gpu = open_gpu(time_source, tmp_path)
    sampler = PowerSampler(gpu, time_source)
    sampler.start()
    time_source.sleep(0.77)
    edge_ns = time_source.now_ns()
    assert sampler.wait_covered(edge_ns)
    assert sampler.take().drop_nulls("power_w")["time_ns"][-1] > edge_ns
    assert (time_source.now_ns() - edge_ns) * 1e-9 < 0.05
    gpu.errors["read_power_samples"] = GpuError("unknown")
    assert not sampler.wait_covered(time_source.now_ns())
    gpu.errors["read_power_samples"] = NotSupportedError("no buffer")
    now_ns = time_source.now_ns()
    assert sampler.wait_covered(now_ns)  # by the counter's next tick
    assert time_source.now_ns() - now_ns < 120_000_000  # it does not wait for a reading that never comes
    gpu.errors["read_energy_counter_j"] = NotSupportedError("no counter")
    now_ns = time_source.now_ns()
    assert not sampler.wait_covered(now_ns)
    assert time_source.now_ns() - now_ns < 20_000_000


def test_overrun_of_the_buffer_is_counted(tmp_path: Path) -> None:
    time_source = VirtualTime()
    gpu = open_gpu(time_source, tmp_path)
    sampler = PowerSampler(gpu, time_source)
    sampler.start()
    time_source.sleep(2.0)
    gpu.errors["read_power_samples"] = GpuError("busy")
    time_source.sleep(4.0)
    gpu.errors.clear()
    time_source.sleep(2.0)
    stats = sampler.stats
    assert stats.num_failed_reads == 8
    assert stats.num_lost == pytest.approx(105, abs=2)  # 4.5 s between drains, 2.4 s in the buffer
    assert stats.num_samples + stats.num_lost == pytest.approx(400, abs=2)


def test_failed_readings_are_null_and_counted_and_sampling_goes_on(tmp_path: Path) -> None:
    time_source = VirtualTime()
    gpu = open_gpu(time_source, tmp_path)
    sampler = PowerSampler(gpu, time_source)
    sampler.start()
    time_source.sleep(1.0)
    gpu.errors["read_state"] = GpuError("unknown")
    time_source.sleep(1.0)
    gpu.errors.clear()
    time_source.sleep(1.0)
    assert sampler.error is None
    assert sampler.stats.num_failed_reads == 10
    assert sampler.take().drop_nulls("sm_clock_mhz").height == 20


def test_a_lost_gpu_is_reported(tmp_path: Path) -> None:
    time_source = VirtualTime()
    gpu = open_gpu(time_source, tmp_path)
    sampler = PowerSampler(gpu, time_source)
    sampler.start()
    time_source.sleep(1.0)
    gpu.errors["read_state"] = GpuLostError("fell off the bus")
    time_source.sleep(1.0)
    assert isinstance(sampler.error, GpuLostError)
    assert not sampler.wait_covered(time_source.now_ns() + 10**9)
    sampler.stop()
    assert sampler.take().drop_nulls("power_w").height == 50


def test_batches_come_once_a_second_and_hold_everything(tmp_path: Path) -> None:
    time_source = VirtualTime()
    gpu = open_gpu(time_source, tmp_path)
    batches: list[pl.DataFrame] = []
    sampler = PowerSampler(gpu, time_source, batches.append)
    sampler.start()
    time_source.sleep(2.5)
    first = sampler.take()
    time_source.sleep(1.0)
    sampler.stop()
    assert len(batches) == 4
    everything = pl.concat([first, sampler.take()]).sort("time_ns")
    assert pl.concat(batches).sort("time_ns").equals(everything)


def test_a_watcher_that_fails_is_reported(tmp_path: Path) -> None:
    time_source = VirtualTime()

    def refuse(_batch: pl.DataFrame) -> None:
        raise ConnectionError("no listener")

    sampler = PowerSampler(open_gpu(time_source, tmp_path), time_source, refuse)
    sampler.start()
    time_source.sleep(2.0)
    assert isinstance(sampler.error, ConnectionError)


def test_the_thread_keeps_its_deadlines_and_ends(tmp_path: Path) -> None:
    time_source = WallTime()
    gpu = open_gpu(time_source, tmp_path)
    sampler = PowerSampler(gpu, time_source)
    began_ns = time_source.now_ns()
    sampler.start()
    assert wait_until(lambda: len(sampler.states_since(began_ns)) >= 10 and sampler.stats.num_samples >= 50)
    # One of them may be missing, where this thread does not run for a quarter of a second.
    mark, *_ = filter(None, [sampler.mark_counter_tick() for _ in range(5)])
    assert wait_until(lambda: sampler.wait_covered(mark[0]))
    sampler.stop()
    assert not any(thread.name == "power-sampler" for thread in threading.enumerate())
    assert sampler.error is None
    frame = sampler.take()
    ticks_s = (frame.drop_nulls("sm_clock_mhz")["time_ns"] - began_ns) / 1e9
    # Each comes at its time or later. A busy machine skips some, and none comes twice.
    assert all(tick_s > TICK_S * k for k, tick_s in enumerate(ticks_s))
    # The driver's buffer holds 2.4 s. Samples are lost only where the thread had to wait longer.
    assert sampler.stats.num_lost == 0 or ticks_s.diff().max() > 1.5


class ClockSetBack(WallTime):
    """The machine's own time, which can be set back."""

    set_back_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() - self.set_back_ns


def test_a_clock_that_is_set_back_stops_neither_the_thread_nor_whoever_waits(tmp_path: Path) -> None:
    time_source = ClockSetBack()
    gpu = open_gpu(time_source, tmp_path)
    time_source.set_back_ns = -3_600_000_000_000  # an hour later
    sampler = PowerSampler(gpu, time_source)
    sampler.start()
    assert wait_until(lambda: sampler.stats.num_samples >= 20)
    last_ns, num_samples = time_source.now_ns(), sampler.stats.num_samples
    time_source.set_back_ns = 0
    set_ns = time_source.now_ns()
    assert not sampler.wait_covered(last_ns)  # and this does not wait for an hour
    assert wait_until(lambda: sampler.stats.num_samples >= num_samples + 20)
    assert wait_until(lambda: len([s for s in sampler.states_since(set_ns) if s.time_ns < last_ns]) > 5)
    sampler.stop()
    assert sampler.error is None


def test_a_thread_whose_gpu_is_lost_says_so(tmp_path: Path) -> None:
    time_source = WallTime()
    gpu = open_gpu(time_source, tmp_path)
    gpu.errors["read_state"] = GpuLostError("fell off the bus")
    sampler = PowerSampler(gpu, time_source)
    sampler.start()
    assert wait_until(lambda: sampler.error is not None)
    assert isinstance(sampler.error, GpuLostError)
    sampler.stop()


def test_looking_back_keeps_what_take_returns(tmp_path: Path) -> None:
    time_source = VirtualTime()
    sampler = PowerSampler(open_gpu(time_source, tmp_path), time_source)  # type: ignore[arg-type]
    sampler.start()
    time_source.sleep(2.0)
    since_ns = time_source.now_ns()
    time_source.sleep(1.0)
    seen = sampler.look_back(since_ns)
    states = sampler.states_since(since_ns)
    taken = sampler.take()
    assert seen.equals(taken.filter(pl.col("time_ns") >= since_ns))
    assert seen["power_w"].drop_nulls().len() > 40
    assert taken.height > 2 * seen.height
    assert [state.time_ns for state in states] == sorted(state.time_ns for state in states)
    assert len(states) == 10
    assert min(state.time_ns for state in states) > since_ns
    assert sampler.states_since(since_ns) == states  # `take` leaves them
    assert sampler.look_back(since_ns).height == 0
