from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from runner.inference.engine import EngineError, EngineRun, Sampling
from runner.inference.simulated.engine import SimulatedEngine
from runner.physics.gpu_model import load_gpu_model
from runner.physics.gpu_state import GpuSettings, GpuState
from runner.physics.shape import get_shape
from runner.spec.load import ClosedLoop
from runner.spec.request import Request
from runner.spec.throttle import ThrottleReason
from runner.timebase import VirtualTime

START_NS = 1_700_000_000_000_000_000


def make_engine(tmp_path: Path, **options: int) -> SimulatedEngine:
    state = GpuState(tmp_path / "gpu")
    return SimulatedEngine(
        shape=get_shape("mistral-7b"),
        gpu_model=load_gpu_model(),
        state=state,
        time_source=VirtualTime(START_NS),
        **options,
    )


def make_request(index: int, num_prompt_tokens: int = 64, num_output_tokens: int = 16) -> Request:
    return Request(
        request_id=f"synthetic/{index}",
        sample_id=str(index),
        kind="generate" if num_output_tokens else "loglikelihood",
        prompt_token_ids=tuple(range(num_prompt_tokens)),
        num_context_tokens=num_prompt_tokens if num_output_tokens else 1,
        max_output_tokens=num_output_tokens,
    )


def run(engine: SimulatedEngine, requests: list[Request], concurrency: int, **options: float) -> EngineRun:
    return engine.run(iter(requests), ClosedLoop(concurrency=concurrency), Sampling(), **options)


def test_every_request_is_answered_and_its_times_are_in_order(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    result = run(engine, [make_request(i, 50 + 7 * i, 1 + i % 9) for i in range(40)], 8)
    assert sorted(c.row_id for c in result.completions) == sorted(f"synthetic/{i}#0" for i in range(40))
    for completion in result.completions:
        times = [completion.queued_ns, completion.scheduled_ns, completion.first_token_ns, completion.last_token_ns]
        assert [result.start_ns, *times, result.end_ns] == sorted([result.start_ns, *times, result.end_ns])
        assert (completion.text, completion.error, completion.output_token_ids) == (None, None, ())
        assert completion.num_output_tokens == 1 + int(completion.sample_id) % 9
    assert engine.time_source.now_ns() == result.end_ns


def test_steps_hold_every_token(tmp_path: Path) -> None:
    result = run(make_engine(tmp_path, max_num_batched_tokens=100), [make_request(i, 230, 16) for i in range(20)], 4)
    assert sum(step.num_prefill_tokens for step in result.steps) == 20 * 230
    assert sum(step.num_decode_tokens for step in result.steps) == 20 * 15
    assert max(step.num_prefill_tokens + step.num_decode_tokens for step in result.steps) == 100
    assert max(step.num_running for step in result.steps) <= 4


def test_every_place_is_taken_until_the_prompts_are_used_up(tmp_path: Path) -> None:
    result = run(make_engine(tmp_path), [make_request(i, 64, 3 + i % 5) for i in range(30)], 6)
    last_queued_ns = max(c.queued_ns for c in result.completions)
    for step in result.steps:
        if step.time_ns < last_queued_ns:
            instant = step.time_ns - 1
            assert sum(c.queued_ns <= instant < c.last_token_ns for c in result.completions) == 6


def test_no_more_than_max_num_seqs_run(tmp_path: Path) -> None:
    result = run(make_engine(tmp_path, max_num_seqs=3), [make_request(i) for i in range(20)], 10)
    assert max(step.num_running for step in result.steps) == 3
    assert len(result.completions) == 20


def test_a_decode_step_lasts_as_long_and_draws_as_much_as_the_gpu_model_says(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    result = run(engine, [make_request(0, 64, 3)], 1)
    activities = engine.state.read_new_activity()
    assert [a.end_ns for a in activities] == [step.time_ns for step in result.steps]
    for activity, (earlier, later) in zip(activities[1:], pairwise(result.steps), strict=True):
        assert activity.end_ns - activity.start_ns == later.time_ns - earlier.time_ns
    completion = result.completions[0]
    # Calculated by hand from the constants of the file: the weights once, and 64 or 65 tokens of context.
    gpu = engine.gpu_model
    traffic_s = (2 * 7.110e9 + 131072 * 66) / gpu.bytes_per_s
    compute_s = 2 * 7.110e9 / gpu.flops_per_s
    p = gpu.overlap_exponent
    kernel_s = ((compute_s + gpu.sm_share_of_memory_time * traffic_s) ** p + traffic_s**p) ** (1 / p)
    step_s = gpu.host_s_per_step + 32 * gpu.host_s_per_layer + gpu.host_s_per_decode_token + kernel_s
    assert (completion.last_token_ns - completion.first_token_ns) / 2e9 == pytest.approx(step_s, rel=1e-3)
    power_w = (
        gpu.idle_high_w
        + (gpu.busy_w * kernel_s + gpu.compute_w * compute_s + (gpu.traffic_w + gpu.memory_w) * traffic_s) / step_s
    )
    assert activities[-1].power_w == pytest.approx(power_w, rel=1e-3)


def test_a_change_of_clock_holds_once_it_has_settled(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    engine.state.change_settings(GpuSettings(time_ns=START_NS, sm_clock_mhz=990))
    run(engine, [make_request(0, 16, 100)], 1)
    settled_ns = START_NS + round(engine.gpu_model.settle_s * 1e9)
    activities = engine.state.read_new_activity()
    assert {a.sm_clock_mhz for a in activities if a.start_ns < settled_ns} == {1980.0}
    assert {a.sm_clock_mhz for a in activities if a.start_ns >= settled_ns} == {990.0}


def test_a_power_cap_is_told_as_an_event(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    run(engine, [make_request(i, 2000, 1) for i in range(8)], 4)
    activities = engine.state.read_new_activity()
    assert any(a.throttle_reasons == ThrottleReason.POWER_CAP for a in activities)
    assert all((a.sm_clock_mhz < 1980) == (a.throttle_reasons == ThrottleReason.POWER_CAP) for a in activities)


def test_scored_prompts_return_no_invented_score(tmp_path: Path) -> None:
    result = run(make_engine(tmp_path), [make_request(i, 80, 0) for i in range(5)], 2)
    for completion in result.completions:
        assert (completion.kind, completion.num_output_tokens, completion.error) == ("loglikelihood", 0, None)
        assert completion.loglikelihood is None
        assert completion.is_greedy is None


def test_repeated_ids_are_told_apart_by_round(tmp_path: Path) -> None:
    result = run(make_engine(tmp_path), [make_request(0), make_request(1), make_request(0)], 2)
    assert sorted(c.row_id for c in result.completions) == ["synthetic/0#0", "synthetic/0#1", "synthetic/1#0"]


def test_requests_that_vllm_would_refuse_fail_and_let_time_pass(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, max_model_len=100)

    def too_long_for_a_second() -> Iterator[Request]:
        while engine.time_source.now_ns() < START_NS + 1_000_000_000:
            yield make_request(0, 90, 11)

    result = engine.run(too_long_for_a_second(), ClosedLoop(concurrency=4), Sampling())
    assert result.completions
    assert {c.error for c in result.completions} == {
        "refused: 101 tokens of prompt and output exceed max_model_len 100"
    }


def test_at_the_deadline_requests_in_flight_are_aborted(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    result = run(engine, [make_request(i, 64, 1000) for i in range(4)], 2, deadline_s=0.5)
    assert [c.error for c in result.completions] == ["not finished within the limit of 0.5 s; aborted"] * 2
    assert 0.5 < (result.end_ns - result.start_ns) / 1e9 < 0.52
    assert run(engine, [make_request(0)], 1).completions[0].error is None


def test_progress_is_told_at_most_four_times_a_second(tmp_path: Path) -> None:
    engine, told = make_engine(tmp_path), []
    result = engine.run(
        iter([make_request(i, 64, 50) for i in range(20)]),
        ClosedLoop(concurrency=2),
        Sampling(),
        on_progress=lambda *counts: told.append((engine.time_source.now_ns(), *counts)),
    )
    assert len(told) >= (result.end_ns - result.start_ns) / 1e9 * 2
    assert all(later[0] - earlier[0] >= 250_000_000 for earlier, later in pairwise(told))
    assert all(later[1:] >= earlier[1:] for earlier, later in pairwise(told))
    assert told[-1][2] <= 20 * 50


def test_a_reader_of_the_gpu_finds_its_activity_logged_during_the_run(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    observer, seen = GpuState(tmp_path / "gpu"), []
    stop = engine.time_source.every(
        0.05, lambda: seen.append((engine.time_source.now_ns(), observer.read_new_activity()))
    )
    run(engine, [make_request(0, 64, 200)], 1)
    stop()
    logged_ns = 0
    assert len(seen) > 10
    for now_ns, activities in seen:
        logged_ns = max([logged_ns, *(activity.end_ns for activity in activities)])
        assert logged_ns > now_ns - 10_000_000


def test_a_closed_engine_and_a_model_too_large_are_errors(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        run(engine, [make_request(0)], 1)
    with pytest.raises(EngineError, match=r"qwen2\.5-32b takes 61 GiB"):
        SimulatedEngine(
            shape=get_shape("qwen2.5-32b"),
            gpu_model=load_gpu_model("rtx5090"),
            state=GpuState(tmp_path / "small"),
            time_source=VirtualTime(),
        )


def test_the_encoder_is_deterministic_and_keeps_a_contexts_tokens_a_prefix(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    context, whole = engine.encode("The capital of France is"), engine.encode("The capital of France is Paris")
    assert whole[: len(context)] == context
    assert len(whole) == len(context) + 1
    assert max(whole) < engine.vocab_size
