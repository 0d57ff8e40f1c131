from types import SimpleNamespace

import pytest

from runner.inference.vllm.paced.pace import MAX_LAG_NS, Pace, StepSchedule, WorkCounter
from runner.physics.shape import StepWork

MS = 1_000_000


def step(scheduled, *, new=(), cached=(), finished=()):
    """A `SchedulerOutput` with what the counter reads."""
    return SimpleNamespace(
        scheduled_new_reqs=[
            SimpleNamespace(
                req_id=request_id,
                prompt_token_ids=[0] * num_prompt_tokens,
                num_computed_tokens=num_computed_tokens,
                sampling_params=SimpleNamespace(prompt_logprobs=prompt_logprobs),
            )
            for request_id, num_prompt_tokens, num_computed_tokens, prompt_logprobs in new
        ],
        scheduled_cached_reqs=SimpleNamespace(
            req_ids=[request_id for request_id, _ in cached],
            num_computed_tokens=[num_computed_tokens for _, num_computed_tokens in cached],
        ),
        num_scheduled_tokens=scheduled,
        total_num_scheduled_tokens=sum(scheduled.values()),
        finished_req_ids=set(finished),
    )


def work(prefill, decode, attended, kv, logits):
    return StepWork(
        num_prefill_tokens=prefill,
        num_decode_tokens=decode,
        num_attended_tokens=attended,
        num_kv_tokens=kv,
        num_logit_rows=logits,
    )


def test_whole_prompt_then_one_token_a_step():
    counter = WorkCounter()
    assert counter.count(step({"a": 4}, new=[("a", 4, 0, None)])) == work(4, 0, 1 + 2 + 3 + 4, 0, 1)
    assert counter.count(step({"a": 1}, cached=[("a", 4)])) == work(0, 1, 5, 4, 1)
    assert counter.count(step({"a": 1}, cached=[("a", 5)])) == work(0, 1, 6, 5, 1)


def test_prompt_in_chunks_beside_a_decoding_request():
    counter = WorkCounter()
    counter.count(step({"a": 3}, new=[("a", 3, 0, None)]))
    assert counter.count(step({"a": 1, "b": 2}, new=[("b", 3, 0, None)], cached=[("a", 3)])) == work(2, 1, 4 + 3, 3, 2)
    # The last chunk is a single token, and still part of the prompt.
    assert counter.count(step({"b": 1}, cached=[("b", 2)], finished=["a"])) == work(1, 0, 3, 2, 1)


def test_cached_prefix_is_read_not_computed():
    assert WorkCounter().count(step({"a": 2}, new=[("a", 10, 8, None)])) == work(2, 0, 9 + 10, 8, 1)


def test_every_prompt_token_has_logits_where_its_probability_is_wanted():
    assert WorkCounter().count(step({"a": 5}, new=[("a", 5, 0, 0)])).num_logit_rows == 5


def test_preempted_request_computes_its_output_again():
    counter = WorkCounter()
    counter.count(step({"a": 3}, new=[("a", 3, 0, None)]))
    counter.count(step({"a": 1}, cached=[("a", 3)]))
    assert counter.count(step({"a": 5}, cached=[("a", 0)])) == work(5, 0, 15, 0, 1)


def test_finished_request_is_forgotten():
    counter = WorkCounter()
    counter.count(step({"a": 3}, new=[("a", 3, 0, None)]))
    counter.count(step({}, finished=["a"]))
    with pytest.raises(KeyError):
        counter.count(step({"a": 1}, cached=[("a", 3)]))


def test_steps_follow_each_other_without_the_hosts_milliseconds():
    schedule = StepSchedule()
    assert schedule.begin(1000 * MS) == 1000 * MS
    assert schedule.end(1020 * MS, now_ns=1005 * MS) == pytest.approx(0.015)
    assert schedule.begin(1023 * MS) == 1020 * MS
    assert schedule.end(1040 * MS, now_ns=1026 * MS) == pytest.approx(0.014)
    assert schedule.lost_s == 0


def test_late_step_is_caught_up():
    schedule = StepSchedule()
    schedule.begin(0)
    assert schedule.end(20 * MS, now_ns=90 * MS) == 0
    assert schedule.lost_s == pytest.approx(0.070)
    assert schedule.begin(91 * MS) == 20 * MS
    assert schedule.end(100 * MS, now_ns=95 * MS) == pytest.approx(0.005)
    assert schedule.lost_s == 0


def test_too_late_a_step_starts_afresh_and_is_counted():
    schedule = StepSchedule()
    schedule.begin(0)
    schedule.end(20 * MS, now_ns=150 * MS)
    late_ns = 20 * MS + MAX_LAG_NS + 50 * MS
    assert schedule.begin(late_ns) == late_ns
    schedule.end(late_ns + 20 * MS, now_ns=late_ns + 5 * MS)
    assert schedule.lost_s == pytest.approx((late_ns - 20 * MS) / 1e9)


def test_engine_that_is_always_slower_loses_what_it_is_slower_by():
    schedule, now_ns = StepSchedule(), 0
    for _ in range(100):
        start_ns = schedule.begin(now_ns)
        now_ns += 30 * MS
        now_ns += round(schedule.end(start_ns + 20 * MS, now_ns) * 1e9)
    assert schedule.lost_s == pytest.approx(1.0)


def test_the_engine_is_told_the_pace(tmp_path):
    pace = Pace(gpu_model="h200", modelled_shape="qwen2.5-32b", state_dir=tmp_path)
    assert Pace.from_additional_config(pace.engine_args()["additional_config"]) == pace
