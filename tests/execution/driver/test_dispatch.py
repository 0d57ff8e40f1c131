"""The order of blocks: models stay loaded, blocks stay on their GPU, and a trial that kills workers is failed."""

from collections.abc import Collection

from runner.execution.driver.dispatch import Queue
from runner.spec.sweep import parse_sweep
from runner.spec.trial import Block, expand_trials


def make_blocks(**num_blocks: int) -> list[Block]:
    """Return blocks of three trials each, with the given number of blocks for each model."""
    blocks = []
    for model, count in num_blocks.items():
        sweep = parse_sweep(
            {
                "name": "s",
                "repeats": 3,
                "model": [{"id": model}],
                "task": [{"name": "synthetic", "num_prompt_tokens": 8, "num_output_tokens": 4, "num_requests": 2}],
                "axes": {"concurrency": list(range(1, count + 1))},
            }
        )
        blocks += expand_trials(sweep)
    return blocks


def make_queue(
    blocks: list[Block],
    finished: Collection[str] = (),
    begun_on: dict[str, str] | None = None,
    gpus: Collection[str] = ("A", "B"),
) -> Queue:
    return Queue(blocks, finished, begun_on or {}, gpus)


def ids(block: Block) -> list[str]:
    return [trial.trial_id for trial in block.trials]


def test_models_that_nobody_has_loaded_are_counted() -> None:
    queue = make_queue(make_blocks(a=2, b=1, c=1))
    assert queue.num_models_waiting == 3
    assert [queue.take(gpu).block.model.label for gpu in ("A", "B")] == ["a", "b"]
    assert queue.num_models_waiting == 1  # of a there are blocks left, for the worker that has it
    take_models(queue, "A")
    assert queue.num_models_waiting == 0


def take_models(queue: Queue, gpu: str) -> list[str]:
    models = []
    while assignment := queue.take(gpu):
        models.append(assignment.block.model.id)
    return models


def test_every_block_is_handed_out_once() -> None:
    blocks = make_blocks(a=3, b=2)
    queue = make_queue(blocks)
    assert len(queue.trial_ids) == 15
    taken = [assignment for gpu in "ABABABAB" if (assignment := queue.take(gpu))]
    assert sorted(a.block.block_id for a in taken) == sorted(block.block_id for block in blocks)
    assert all(a.trial_ids == set(ids(a.block)) for a in taken)
    assert len(queue.trial_ids) == 0
    assert queue.take("A") is None


def test_a_worker_keeps_its_model_as_long_as_there_is_work_for_it() -> None:
    assert take_models(make_queue(make_blocks(a=2, b=5, c=1)), "A") == ["b"] * 5 + ["a"] * 2 + ["c"]


def test_a_second_worker_begins_with_another_model() -> None:
    queue = make_queue(make_blocks(a=3, b=2))
    assert queue.take("A").block.model.id == "a"
    assert queue.take("B").block.model.id == "b"
    assert queue.take("B").block.model.id == "b"
    assert queue.take("B").block.model.id == "a"  # nothing else is left to do


def test_one_model_keeps_every_worker_busy() -> None:
    queue = make_queue(make_blocks(a=8), gpus=[str(k) for k in range(8)])
    assert len({queue.take(str(k)).block.block_id for k in range(8)}) == 8


def test_of_equals_the_first_in_the_sweeps_order_goes_first() -> None:
    blocks = make_blocks(a=2, b=2)
    queue = make_queue(blocks)
    assert [queue.take("A").block.block_id for _ in range(4)] == [block.block_id for block in blocks]


# resuming ------------------------------------------------------------------------------------------------------------


def test_finished_trials_are_left_out_and_whole_finished_blocks_too() -> None:
    done, half, fresh = make_blocks(a=3)
    queue = make_queue([done, half, fresh], finished=[*ids(done), ids(half)[1]])
    assert len(queue.trial_ids) == 2 + 3
    assert queue.take("A").trial_ids == {ids(half)[0], ids(half)[2]}
    assert queue.take("A").block == fresh


def test_a_block_begun_on_a_gpu_waits_for_that_gpu() -> None:
    block, other = make_blocks(a=2)
    queue = make_queue([block, other], finished=ids(block)[:1], begun_on={block.block_id: "B"})
    assert queue.take("A").block == other
    assert queue.take("A") is None
    assert queue.take("B").block == block


def test_a_block_begun_on_a_gpu_that_is_not_there_goes_to_any() -> None:
    (block,) = make_blocks(a=1)
    assert make_queue([block], begun_on={block.block_id: "elsewhere"}).take("A").block == block


def test_limit_keeps_the_first_trials_in_their_order() -> None:
    first, second, third = make_blocks(a=3)
    queue = make_queue([first, second, third], finished=ids(first)[:1])
    queue.limit(3)
    assert len(queue.trial_ids) == 3
    assert queue.take("A").trial_ids == set(ids(first)[1:])
    assert queue.take("A").trial_ids == {ids(second)[0]}
    assert queue.take("A") is None


def test_a_limit_beyond_what_waits_changes_nothing() -> None:
    queue = make_queue(make_blocks(a=2))
    queue.limit(100)
    assert len(queue.trial_ids) == 6


# deaths --------------------------------------------------------------------------------------------------------------


def test_a_block_whose_worker_died_goes_on_where_it_was_on_its_own_gpu() -> None:
    (block,) = make_blocks(a=1)
    queue = make_queue([block])
    assignment = queue.take("A")
    assert queue.give_back(assignment, finished=ids(block)[:1]) is None
    assert queue.take("B") is None  # two GPUs of one kind differ by about 5 %
    assert queue.take("A").trial_ids == set(ids(block)[1:])


def test_a_block_of_a_gpu_that_is_gone_goes_to_another() -> None:
    (block,) = make_blocks(a=1)
    queue = make_queue([block])
    queue.give_back(queue.take("A"), finished=ids(block)[:1])
    queue.lose_gpu("A")
    assert queue.take("B").trial_ids == set(ids(block)[1:])


def test_a_block_that_was_done_when_its_worker_died_is_not_run_again() -> None:
    (block,) = make_blocks(a=1)
    queue = make_queue([block])
    assert queue.give_back(queue.take("A"), finished=ids(block)) is None
    assert len(queue.trial_ids) == 0


def test_the_second_worker_that_dies_over_a_trial_convicts_it_and_the_rest_goes_on() -> None:
    (block,) = make_blocks(a=1)
    good, bad, last = ids(block)
    queue = make_queue([block])
    assert queue.give_back(queue.take("A"), finished=[good]) is None
    assert queue.give_back(queue.take("A"), finished=[good]) == bad
    assert queue.take("A").trial_ids == {last}


def test_deaths_over_different_trials_convict_none() -> None:
    (block,) = make_blocks(a=1)
    first, second, _ = ids(block)
    queue = make_queue([block])
    assert queue.give_back(queue.take("A"), finished=[]) is None
    assert queue.give_back(queue.take("A"), finished=[first]) is None
    assert queue.give_back(queue.take("A"), finished=[first, second]) is None


def test_a_guilty_trial_alone_in_its_block_leaves_nothing() -> None:
    (block,) = make_blocks(a=1)
    queue = make_queue([block], finished=ids(block)[1:])
    queue.give_back(queue.take("A"), finished=[])
    assert queue.give_back(queue.take("A"), finished=[]) == ids(block)[0]
    assert queue.take("A") is None


def test_a_lost_gpu_no_longer_counts_as_having_a_model_loaded() -> None:
    queue = make_queue(make_blocks(a=3, b=2))
    queue.take("A")
    queue.lose_gpu("A")
    # With "a" loaded nowhere, its two waiting blocks are as urgent as the two of "b", and come first.
    assert queue.take("B").block.model.id == "a"
