from itertools import pairwise

import pytest

from runner.physics.gpu_model import GpuModel, StepOutcome, gpu_model_names, load_gpu_model
from runner.physics.gpu_state import GpuSettings, effective_point
from runner.physics.shape import StepWork, decode_work, get_shape, prefill_work
from runner.spec.operating_point import OperatingPoint

MISTRAL = get_shape("mistral-7b")
WORKS = [decode_work(1, 500), decode_work(64, 1000), prefill_work(4, 1900), prefill_work(1, 128)]


@pytest.fixture(params=gpu_model_names())
def gpu(request: pytest.FixtureRequest) -> GpuModel:
    return load_gpu_model(request.param)


def over_clocks(gpu: GpuModel, work: StepWork, **point: float) -> list[StepOutcome]:
    """Return the outcomes at the supported SM clocks, ascending."""
    return [
        gpu.step(MISTRAL, work, OperatingPoint(sm_clock_mhz=clock, **point))  # type: ignore[arg-type]
        for clock in gpu.sm_clocks_mhz
    ]


def best_clock(gpu: GpuModel, work: StepWork, **point: float) -> int:
    outcomes = over_clocks(gpu, work, **point)
    energies = [outcome.duration_s * outcome.power_w for outcome in outcomes]
    return gpu.sm_clocks_mhz[energies.index(min(energies))]


@pytest.mark.parametrize("work", WORKS)
def test_a_lower_clock_never_takes_less_time_nor_more_power(gpu: GpuModel, work: StepWork) -> None:
    for lower, higher in pairwise(over_clocks(gpu, work)):
        assert lower.duration_s >= higher.duration_s
        assert lower.power_w <= higher.power_w or higher.power_capped


@pytest.mark.parametrize("work", WORKS)
def test_a_lower_memory_clock_never_takes_less_time(gpu: GpuModel, work: StepWork) -> None:
    durations = [
        gpu.step(MISTRAL, work, OperatingPoint(mem_clock_mhz=clock, power_limit_w=1e9)).duration_s
        for clock in gpu.mem_clocks_mhz
    ]
    assert durations == sorted(durations, reverse=True)


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("limit_w", [320.0, 400.0, 550.0])
def test_the_limit_picks_the_highest_clock_within_it(work: StepWork, limit_w: float) -> None:
    gpu = load_gpu_model("h200")
    capped = gpu.step(MISTRAL, work, OperatingPoint(power_limit_w=limit_w))
    within = [outcome for outcome in over_clocks(gpu, work, power_limit_w=1e9) if outcome.power_w <= limit_w]
    assert (capped.sm_clock_mhz, capped.power_w) == (within[-1].sm_clock_mhz, within[-1].power_w)
    assert capped.power_capped == (capped.sm_clock_mhz < gpu.sm_clocks_mhz[-1])


def test_a_clock_asked_for_below_the_capped_one_is_kept() -> None:
    outcome = load_gpu_model().step(MISTRAL, prefill_work(4, 1900), OperatingPoint(sm_clock_mhz=990))
    assert (outcome.sm_clock_mhz, outcome.power_capped) == (990, False)


def test_a_limit_that_nothing_keeps_to_leaves_the_lowest_clock(gpu: GpuModel) -> None:
    outcome = gpu.step(MISTRAL, prefill_work(4, 1900), OperatingPoint(power_limit_w=1.0))
    assert outcome.sm_clock_mhz == gpu.sm_clocks_mhz[0]
    assert outcome.power_capped
    assert outcome.power_w > 1.0


@pytest.mark.parametrize("shape_name", ["llama-3.2-1b", "mistral-7b", "qwen2.5-32b", "llama-3.1-70b-fp8"])
def test_energy_is_u_shaped_and_decoding_is_best_no_higher_than_prefill(shape_name: str) -> None:
    gpu, shape = load_gpu_model("h200"), get_shape(shape_name)

    def energies(work: StepWork) -> list[float]:
        points = [OperatingPoint(sm_clock_mhz=clock) for clock in gpu.sm_clocks_mhz]
        return [o.duration_s * o.power_w for o in (gpu.step(shape, work, point) for point in points)]

    prefill, decode = energies(prefill_work(4, 1900)), energies(decode_work(16, 1000))
    best_prefill, best_decode = prefill.index(min(prefill)), decode.index(min(decode))
    assert 0 < best_decode <= best_prefill < len(gpu.sm_clocks_mhz) - 1
    assert prefill[0] > 1.2 * min(prefill)
    assert prefill[-1] > 1.1 * min(prefill)


def test_the_modelled_shapes_of_a_paced_engine_decode_slowly_enough() -> None:
    gpu = load_gpu_model("h200")
    for name in ("mistral-small-24b", "qwen2.5-32b", "llama-3.1-70b-fp8"):
        assert gpu.step(get_shape(name), decode_work(1, 100), OperatingPoint()).duration_s > 0.012


def test_idle_power_falls_with_the_clocks(gpu: GpuModel) -> None:
    watts = [gpu.idle_power_w(clock) for clock in gpu.sm_clocks_mhz]
    assert watts == sorted(watts)
    assert watts[0] == pytest.approx(gpu.idle_low_w)
    assert watts[-1] == pytest.approx(gpu.idle_high_w)
    assert 0 < gpu.idle_power_w(None, gpu.mem_clocks_mhz[0]) <= watts[-1]


def test_an_unknown_gpu_lists_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"'h900'.*h200, rtx5090"):
        load_gpu_model("h900")


def test_settings_hold_after_they_have_settled() -> None:
    history = [
        GpuSettings(time_ns=1_000_000_000, sm_clock_mhz=990),
        GpuSettings(time_ns=2_000_000_000, sm_clock_mhz=1500, power_limit_w=400.0),
    ]
    settled = OperatingPoint(sm_clock_mhz=1500, power_limit_w=400.0)
    assert effective_point([], 5, 0.06) == OperatingPoint()
    assert effective_point(history, 1_059_999_999, 0.06) == OperatingPoint()
    assert effective_point(history, 1_060_000_000, 0.06) == OperatingPoint(sm_clock_mhz=990)
    assert effective_point(history, 2_000_000_000, 0.06) == OperatingPoint(sm_clock_mhz=990)
    assert effective_point(history, 2_060_000_000, 0.06) == settled


@pytest.mark.parametrize("work", WORKS)
def test_parts_are_shares_at_every_clock(gpu: GpuModel, work: StepWork) -> None:
    for outcome in over_clocks(gpu, work):
        parts = outcome.parts
        assert 0 < parts.tensor_active_fraction < 1
        assert 0 < parts.dram_active_fraction < 1
        assert 0 < parts.sm_active_fraction < 1
        assert gpu.memory_rest_w(outcome.mem_clock_mhz) < parts.memory_power_w < outcome.power_w


def test_parts_follow_the_work_and_the_clocks() -> None:
    gpu = load_gpu_model("h200")
    decoding, prefill = (gpu.step(MISTRAL, work, OperatingPoint()) for work in (WORKS[1], WORKS[2]))
    work = WORKS[2]
    done = MISTRAL.flops(work) / (gpu.peak_flops_per_s * prefill.sm_clock_mhz / gpu.sm_clocks_mhz[-1])
    assert prefill.parts.tensor_active_fraction == pytest.approx(done / prefill.duration_s)
    moved = MISTRAL.bytes(WORKS[1]) / gpu.peak_bytes_per_s
    assert decoding.parts.dram_active_fraction == pytest.approx(moved / decoding.duration_s)
    assert decoding.parts.dram_active_fraction > prefill.parts.dram_active_fraction
    assert decoding.parts.memory_power_w > prefill.parts.memory_power_w
    slow = gpu.step(MISTRAL, WORKS[1], OperatingPoint(mem_clock_mhz=gpu.mem_clocks_mhz[0]))
    assert slow.parts.dram_active_fraction > decoding.parts.dram_active_fraction  # of a lower peak


def test_the_same_work_over_a_longer_time_has_lower_means() -> None:
    parts = load_gpu_model("h200").step(MISTRAL, WORKS[0], OperatingPoint()).parts
    spread = parts.spread(2.0, 55.0)
    assert spread.tensor_active_fraction == pytest.approx(parts.tensor_active_fraction / 2)
    assert spread.memory_power_w - 55.0 == pytest.approx((parts.memory_power_w - 55.0) / 2)
    assert parts.spread(1.0, 55.0) == parts
