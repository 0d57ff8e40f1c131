"""What a joule is made of, from the sensors to the row: the GPU's memory, its units, and the host.

The simulated GPU's truth is known.
"""

from pathlib import Path

import pytest

from runner.analysis.window.trial_row import TrialRow, analyse_trial
from runner.hardware.simulated.faults import Fault, fail
from runner.hardware.simulated.rates import PartSums
from runner.results.measurement import Measurement
from tests.execution.trial_contexts import VirtualContext, make_requests, open_context
from tests.hardware.host.trees import set_energy, write_zone

LOADS = [
    pytest.param({"concurrency": 8}, (128, 64, 40), id="decoding"),
    pytest.param({"concurrency": 64, "sm_clock_mhz_requested": 990}, (1024, 16, 100), id="mixed at 990 MHz"),
    pytest.param({"concurrency": 4}, (1900, 1, 60), id="prefill"),
    pytest.param({"concurrency": 1, "mem_clock_mhz_requested": 2201}, (64, 200, 4), id="one at 2201 MHz memory"),
]


def find_truth(opened: VirtualContext, measurement: Measurement) -> PartSums:
    history = opened.nvml.true_nvml.nvmlDeviceGetHandleByIndex(0).history
    start, end = history.part_sums(measurement.start_ns), history.part_sums(measurement.end_ns)
    return PartSums(*(getattr(end, name) - getattr(start, name) for name in ("memory_j", "tensor_s", "dram_s", "sm_s")))


def measure(
    opened: VirtualContext, identity: dict[str, object], shape: tuple[int, int, int]
) -> tuple[TrialRow, PartSums]:
    measurement = opened.measure(make_requests(*shape), identity, min_window_s=6.0)
    return analyse_trial(measurement).row, find_truth(opened, measurement)


@pytest.mark.parametrize(("identity", "shape"), LOADS)
def test_memory_and_activity_follow_the_truth(
    tmp_path: Path, identity: dict[str, object], shape: tuple[int, int, int]
) -> None:
    with open_context(tmp_path) as opened:
        row, truth = measure(opened, identity, shape)
    error_j = abs(row["memory_energy_j"] - truth.memory_j)
    assert error_j <= row["memory_energy_uncertainty_j"]
    assert error_j < 0.01 * truth.memory_j
    assert 0 < row["memory_energy_j"] < row["energy_j"]
    for unit in ("tensor", "dram", "sm"):
        expected = getattr(truth, f"{unit}_s") / row["duration_s"]
        assert row[f"{unit}_active_fraction"] == pytest.approx(expected, abs=0.002)
        assert 0 < expected < 1
    assert (row["memory_energy_reason"], row["activity_reason"]) == (None, None)


def test_decoding_keeps_the_memory_busy_and_prefill_the_tensor_cores(tmp_path: Path) -> None:
    with open_context(tmp_path) as opened:
        decoding, _ = measure(opened, {"concurrency": 8}, (16, 200, 16))
        prefill, _ = measure(opened, {"concurrency": 8}, (1900, 1, 60))
    assert decoding["dram_active_fraction"] > 0.5 > decoding["tensor_active_fraction"]
    assert prefill["tensor_active_fraction"] > 0.5 > prefill["dram_active_fraction"]


def test_a_gpu_that_has_neither_says_why(tmp_path: Path) -> None:
    with open_context(tmp_path, gpu_request="sim:h200+a100") as opened:
        row, _ = measure(opened, {}, (128, 64, 40))
    assert row["memory_energy_j"] is None
    assert row["memory_energy_reason"].startswith("the GPU does not tell its memory from the rest")
    assert (row["tensor_active_fraction"], row["dram_active_fraction"], row["sm_active_fraction"]) == (None,) * 3
    assert row["activity_reason"] == "the GPU has no activity counters (GPM)"
    assert row["energy_j"] > 0


def test_activity_that_fails_at_one_edge_is_null_and_the_trial_goes_on(tmp_path: Path) -> None:
    with open_context(tmp_path) as opened:
        opened.nvml.faults.append(Fault(functions=("nvmlGpmSampleGet",), effect=fail(999), calls=range(1, 2)))
        row, _ = measure(opened, {}, (128, 64, 40))
    assert row["status"] == "ok"
    assert row["verdicts"] == []
    assert row["tensor_active_fraction"] is None
    assert "nvmlGpmSampleGet" in row["activity_reason"]


def draw(opened: VirtualContext, root: Path, idle_w: float, busy_w: float) -> None:
    """Let the host's counter rise with time: by `busy_w` while requests are handed in, by `idle_w` otherwise."""
    state = {"time_ns": opened.time_source.now_ns(), "uj": 0.0}
    history = opened.nvml.true_nvml.nvmlDeviceGetHandleByIndex(0).history

    def count() -> None:
        now_ns = opened.time_source.now_ns()
        is_busy = history.at(now_ns).power_w > 200
        state["uj"] += (busy_w if is_busy else idle_w) * (now_ns - state["time_ns"]) * 1e-3
        state["time_ns"] = now_ns
        set_energy(root, "intel-rapl:0", round(state["uj"]))

    opened.time_source.every(0.05, count)


def test_the_host_is_counted_over_the_window_and_above_its_rest(tmp_path: Path) -> None:
    root = tmp_path / "powercap"
    write_zone(root, "intel-rapl:0", "package-0")
    with open_context(tmp_path, host_root=root) as opened:
        draw(opened, root, idle_w=100.0, busy_w=300.0)
        row, _ = measure(opened, {"concurrency": 8}, (128, 64, 200))
    assert row["host_energy_j"] == pytest.approx(300.0 * row["duration_s"], rel=0.03)
    assert row["host_energy_above_idle_j"] == pytest.approx(200.0 * row["duration_s"], rel=0.05)
    assert (row["host_share_fraction"], row["host_energy_zones"]) == (1.0, "package-0")
    assert row["host_energy_reason"] is None


def test_a_host_without_counters_is_null_with_a_reason(tmp_path: Path) -> None:
    with open_context(tmp_path) as opened:
        row, _ = measure(opened, {}, (128, 64, 40))
    assert (row["host_energy_j"], row["host_energy_above_idle_j"], row["host_share_fraction"]) == (None,) * 3
    assert row["host_energy_reason"].startswith("no CPU package has an energy counter")
