"""vLLM's scheduling without vLLM, step by step and by hand."""

from runner.inference.simulated.scheduler import Scheduler, Sequence
from runner.physics.shape import StepWork
from runner.spec.request import Request


def sequence(index: int, num_prompt_tokens: int, num_output_tokens: int, *, ready_ns: int = 0) -> Sequence:
    """A sequence; without output tokens it is scored."""
    request = Request(
        request_id=str(index),
        sample_id=str(index),
        kind="generate" if num_output_tokens else "loglikelihood",
        prompt_token_ids=(1,) * num_prompt_tokens,
        num_context_tokens=1,
        max_output_tokens=num_output_tokens,
    )
    return Sequence(request=request, round=0, queued_ns=0, ready_ns=ready_ns)


def make_scheduler(*sequences: Sequence, max_num_seqs: int = 8, max_num_batched_tokens: int = 100) -> Scheduler:
    scheduler = Scheduler(max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens)
    for one in sequences:
        scheduler.add(one)
    return scheduler


def work(prefill: int, decode: int, attended: int, kv: int, logits: int) -> StepWork:
    return StepWork(
        num_prefill_tokens=prefill,
        num_decode_tokens=decode,
        num_attended_tokens=attended,
        num_kv_tokens=kv,
        num_logit_rows=logits,
    )


def test_a_prompt_and_then_a_token_a_step() -> None:
    one = sequence(0, 4, 3)
    scheduler = make_scheduler(one)
    assert scheduler.schedule(0) == work(4, 0, 1 + 2 + 3 + 4, 0, 1)
    assert scheduler.end_step(10) == []
    assert (one.scheduled_ns, one.first_token_ns) == (0, 10)
    assert scheduler.schedule(10) == work(0, 1, 5, 5, 1)
    assert scheduler.end_step(20) == []
    assert scheduler.schedule(20) == work(0, 1, 6, 6, 1)
    assert scheduler.end_step(30) == [one]
    assert scheduler.num_unfinished == 0
    assert scheduler.schedule(30) is None


def test_a_long_prompt_is_cut_to_the_token_budget_and_decoding_comes_first() -> None:
    short, long = sequence(0, 2, 9), sequence(1, 15, 2)
    scheduler = make_scheduler(short, long, max_num_batched_tokens=10)
    assert scheduler.schedule(0) == work(10, 0, (1 + 2) + sum(range(1, 9)), 0, 1)
    scheduler.end_step(1)
    # 9 tokens of the budget are left for the prompt, which needs 7.
    assert scheduler.schedule(1) == work(7, 1, 3 + 7 * 8 + 7 * 8 // 2, 3 + 8, 2)
    scheduler.end_step(2)
    assert long.first_token_ns == 2


def test_a_scored_prompt_has_logits_for_every_token_and_ends_with_them() -> None:
    one = sequence(0, 5, 0)
    scheduler = make_scheduler(one)
    assert scheduler.schedule(0) == work(5, 0, 15, 0, 5)
    assert scheduler.end_step(1) == [one]


def test_no_more_sequences_run_than_may() -> None:
    scheduler = make_scheduler(*(sequence(i, 4, 2) for i in range(5)), max_num_seqs=2)
    scheduler.schedule(0)
    assert (scheduler.num_running, scheduler.num_unfinished) == (2, 5)


def test_a_sequence_waits_until_the_front_end_has_handed_it_over() -> None:
    scheduler = make_scheduler(sequence(0, 4, 2, ready_ns=50))
    assert scheduler.schedule(49) is None
    assert scheduler.next_ready_ns == 50
    assert scheduler.schedule(50) is not None


def test_those_that_end_in_one_step_end_in_their_order() -> None:
    sequences = [sequence(i, 4, 3 - i % 2) for i in range(4)]
    scheduler = make_scheduler(*sequences)
    ended = []
    for now_ns in range(3):
        scheduler.schedule(now_ns)
        ended.append([one.request.request_id for one in scheduler.end_step(now_ns + 1)])
    assert ended == [[], ["1", "3"], ["0", "2"]]


def test_an_abort_drops_all_and_leaves_the_scheduler_usable() -> None:
    decoding, prefilling, waiting = sequence(0, 2, 9), sequence(1, 60, 2), sequence(2, 5, 2)
    scheduler = make_scheduler(decoding, max_num_batched_tokens=10, max_num_seqs=2)
    scheduler.schedule(0)
    scheduler.end_step(1)
    scheduler.add(prefilling)
    scheduler.add(waiting)
    scheduler.schedule(1)
    scheduler.end_step(2)
    assert scheduler.abort() == [decoding, prefilling, waiting]
    assert scheduler.num_unfinished == 0
    scheduler.add(sequence(3, 4, 2))
    assert scheduler.schedule(2) == work(4, 0, 10, 0, 1)
