"""What each request computed in each step, on windows of a few steps that can be followed by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from runner.analysis.energy.request_work import ASSUMED_STEP_NS, RequestWork, StepCosts, find_costs, find_work
from runner.physics.gpu_model import find_gpu_model, load_gpu_model
from runner.physics.shape import StepWork, get_shape
from runner.spec.request import Completion, Step
from tests.analysis.measurements import at, make_completion, make_measurement


def make_steps(*counts: tuple[int, int]) -> list[Step]:
    """Steps that end each 0.1 s, of (prefill tokens, decode tokens)."""
    return [
        Step(time_ns=at(0.1 * (k + 1)), num_prefill_tokens=prefill, num_decode_tokens=decode, num_running=1)
        for k, (prefill, decode) in enumerate(counts)
    ]


def make_request(name: str, *, first_step: int, last_step: int, queued_s: float = 0.0, **changes: Any) -> Completion:
    """A request whose first and last token leave with a step, by its number from 0."""
    num_tokens = last_step - first_step + 1
    first_s, last_s = 0.1 * (first_step + 1), 0.1 * (last_step + 1)
    return make_completion(name, queued_s, first_s, last_s, **{"num_output_tokens": num_tokens} | changes)


def work_of(completions: Sequence[Completion], steps: Sequence[Step], end_s: float = 1.0) -> RequestWork:
    return find_work(make_measurement(completions, end_s, steps=list(steps)))


def chunks(work: RequestWork) -> list[tuple[int, int, float, float]]:
    """(request, step, tokens, context before) of each chunk."""
    columns = (work.chunk_request, work.chunk_step, work.chunk_tokens, work.chunk_before)
    return [tuple(chunk) for chunk in zip(*(column.tolist() for column in columns), strict=True)]


# prompts -------------------------------------------------------------------------------------------------------------


def test_a_prompt_is_cut_where_steps_end() -> None:
    request = make_request("a", first_step=2, last_step=4, num_prompt_tokens=100)
    work = work_of([request], make_steps((40, 0), (40, 0), (20, 0), (0, 1), (0, 1)))
    assert chunks(work) == [(0, 0, 40.0, 0.0), (0, 1, 40.0, 40.0), (0, 2, 20.0, 80.0)]
    assert work.chunk_logit_rows.tolist() == [0.0, 0.0, 1.0]  # the chunk that ends the prompt makes the first token


def test_prompts_are_computed_in_the_order_of_arrival_and_share_a_step() -> None:
    first = make_request("a", first_step=1, last_step=3, num_prompt_tokens=60)
    second = make_request("b", first_step=2, last_step=3, num_prompt_tokens=60, queued_s=0.01)
    # Handed over in another order: who was queued first was computed first.
    work = work_of([second, first], make_steps((40, 0), (40, 0), (40, 1), (0, 2)))
    assert work.places == [1, 0]
    assert chunks(work) == [(0, 0, 40.0, 0.0), (0, 1, 20.0, 40.0), (1, 1, 20.0, 0.0), (1, 2, 40.0, 20.0)]


def test_tokens_from_the_cache_are_context_and_not_computed() -> None:
    request = make_request("a", first_step=0, last_step=1, num_prompt_tokens=100, num_cached_tokens=64)
    work = work_of([request], make_steps((36, 0), (0, 1)))
    assert chunks(work) == [(0, 0, 36.0, 64.0)]


def test_the_prompt_of_a_failed_request_is_nobody_elses() -> None:
    """The steps computed 100 tokens of a request that failed, before those of the one that ended well."""
    failed = make_completion("x", 0.0, 0.2, 0.3, error="aborted")
    request = make_request("a", first_step=2, last_step=3, num_prompt_tokens=50, queued_s=0.1)
    work = work_of([failed, request], make_steps((60, 0), (40, 0), (50, 0), (0, 1)))
    assert work.places == [1]
    assert chunks(work) == [(0, 2, 50.0, 0.0)]


def test_log_likelihoods_compute_logits_for_every_prompt_token() -> None:
    request = make_request("a", first_step=1, last_step=1, kind="loglikelihood", num_output_tokens=0)
    work = work_of([request], make_steps((60, 0), (40, 0)))
    assert work.chunk_logit_rows.tolist() == [60.0, 40.0]
    assert work.decode_tokens_per_step.tolist() == [0.0]


# decoding ------------------------------------------------------------------------------------------------------------


def test_a_request_decodes_one_token_in_each_step_after_its_first() -> None:
    request = make_request("a", first_step=0, last_step=3, num_prompt_tokens=100)
    work = work_of([request], make_steps((100, 0), (0, 1), (0, 1), (0, 1)))
    assert (work.decode_first_step.tolist(), work.decode_end_step.tolist()) == ([1], [4])
    assert (work.decode_tokens_per_step.tolist(), work.decode_context.tolist()) == ([1.0], [101.0])


def test_tokens_are_spread_over_the_steps_of_a_request_that_was_preempted_or_decodes_speculatively() -> None:
    slow = make_request("a", first_step=0, last_step=4, num_output_tokens=3)
    fast = make_request("b", first_step=0, last_step=2, num_output_tokens=7, queued_s=0.01)
    work = work_of([slow, fast], make_steps((200, 0), (0, 4), (0, 4), (0, 0), (0, 1)))
    assert work.decode_tokens_per_step.tolist() == [0.5, 3.0]


def test_times_between_two_steps_count_for_the_step_that_the_request_ended_with() -> None:
    request = make_completion("a", 0.0, 0.11, 0.19, num_output_tokens=3)
    work = work_of([request], make_steps((100, 0), (0, 2), (0, 0)))
    assert (work.decode_first_step.tolist(), work.decode_end_step.tolist()) == ([1], [2])
    assert work.decode_tokens_per_step.tolist() == [2.0]


# steps ---------------------------------------------------------------------------------------------------------------


def test_steps_outside_the_window_are_left_out() -> None:
    request = make_request("a", first_step=0, last_step=1)
    work = work_of([request], make_steps((100, 0), (0, 1), (7, 7)), end_s=0.25)
    assert work.step_ns.tolist() == [at(0.1), at(0.2)]
    assert work.step_prefill_tokens.tolist() == [100.0, 0.0]
    assert work.step_decode_tokens.tolist() == [0.0, 1.0]


def test_without_steps_a_prompt_is_computed_evenly_until_its_first_token() -> None:
    request = make_completion("a", 0.0, 0.1, 0.2, num_prompt_tokens=100)
    work = work_of([request], [], end_s=0.2)
    assert np.diff(work.step_ns).tolist() == [ASSUMED_STEP_NS] * 9
    assert work.step_prefill_tokens.tolist() == [20.0] * 5 + [0.0] * 5
    assert [tokens for _, _, tokens, _ in chunks(work)] == [20.0] * 5


def test_without_requests_there_is_no_work() -> None:
    work = work_of([], make_steps((100, 0)))
    assert (work.places, chunks(work)) == ([], [])


# costs ---------------------------------------------------------------------------------------------------------------


def test_without_a_shape_energy_goes_by_tokens() -> None:
    costs = find_costs(None, "NVIDIA H200")
    assert costs.fixed_s == costs.context_s == 0.0
    assert costs.prefill_s(np.array([10.0]), 5.0, 1.0).tolist() == [10.0]
    assert float(costs.decode_s(1000.0)) == 1.0


def test_costs_are_the_roofline_of_the_shape_on_the_gpu() -> None:
    shape = get_shape("llama-3.2-1b")
    gpu = load_gpu_model(find_gpu_model("NVIDIA H200"))
    costs = find_costs(shape, "NVIDIA H200")
    tokens, before = 100, 28
    # Each token attends to itself and to all before it: 28 x 100 + 100 x 101 / 2 pairs.
    work = StepWork(
        num_prefill_tokens=tokens,
        num_decode_tokens=0,
        num_attended_tokens=before * tokens + tokens * (tokens + 1) // 2,
        num_kv_tokens=0,
        num_logit_rows=1,
    )
    traffic_s = (tokens + before) * shape.kv_bytes_per_token / gpu.bytes_per_s
    expected_s = shape.flops(work) / gpu.flops_per_s + traffic_s
    assert float(costs.prefill_s(np.array([100.0]), 28.0, 1.0)[0]) == pytest.approx(expected_s, rel=1e-9)
    weights_s = (shape.num_layer_parameters + shape.num_head_parameters) * shape.bytes_per_weight / gpu.bytes_per_s
    assert costs.fixed_s > weights_s


def test_more_context_makes_a_decoded_token_dearer_by_the_same_for_each_token_of_it() -> None:
    costs = find_costs(get_shape("llama-3.2-1b"), "NVIDIA H200")
    near, middle, far = costs.decode_s(np.array([0.0, 1000.0, 2000.0]))
    assert far - middle == pytest.approx(middle - near) == pytest.approx(1000.0 * costs.context_s)
    assert costs.context_s > 0


def test_a_gpu_that_was_not_fitted_has_the_costs_of_the_fitted_one() -> None:
    shape = get_shape("llama-3.2-1b")
    assert find_costs(shape, "no such GPU") == find_costs(shape, "NVIDIA H200")
    assert isinstance(find_costs(shape, "no such GPU"), StepCosts)
