"""The queue of blocks: which block goes to which worker next. It uses no Ray.

A block stays on one GPU. A worker keeps its loaded model as long as blocks of that model wait.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from runner.spec.trial import Block

MAX_STRIKES = 2
"""A trial becomes a failed row when this many workers have died during it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """A block for a worker, and the ids of those of its trials that are to be run."""

    block: Block
    trial_ids: frozenset[str]


class Queue:
    """Blocks that wait. A block that this run or an earlier one began on a GPU waits for that GPU, unless it is lost.

    Args:
        finished: ids of trials that are not run again.
        begun_on: the GPU's UUID, by block id.
        gpus: the UUIDs of the run's GPUs.
    """

    def __init__(
        self, blocks: Iterable[Block], finished: Collection[str], begun_on: Mapping[str, str], gpus: Collection[str]
    ) -> None:
        self._waiting: dict[str, Assignment] = {}
        self._gpu_of = {block_id: gpu for block_id, gpu in begun_on.items() if gpu in gpus}
        self._strikes: Counter[str] = Counter()
        self._model_of_worker: dict[str, str] = {}
        for block in blocks:
            left = frozenset(trial.trial_id for trial in block.trials) - frozenset(finished)
            if left:
                self._waiting[block.block_id] = Assignment(block=block, trial_ids=left)

    @property
    def trial_ids(self) -> frozenset[str]:
        """The ids of the trials that wait."""
        return frozenset().union(*(assignment.trial_ids for assignment in self._waiting.values()))

    @property
    def num_models_waiting(self) -> int:
        """The number of models with waiting blocks that no worker has loaded."""
        waiting = {assignment.block.model.label for assignment in self._waiting.values()}
        return len(waiting - set(self._model_of_worker.values()))

    def limit(self, num_trials: int) -> None:
        """Keep the first `num_trials` trials that wait. The rest is left to a later run."""
        for block_id, assignment in list(self._waiting.items()):
            ordered = [t.trial_id for t in assignment.block.trials if t.trial_id in assignment.trial_ids]
            kept = frozenset(ordered[:num_trials])
            num_trials -= len(kept)
            if kept:
                self._waiting[block_id] = Assignment(block=assignment.block, trial_ids=kept)
            else:
                del self._waiting[block_id]

    def take(self, gpu: str) -> Assignment | None:
        """Return the next block for the worker of a GPU; None if no block waits for it.

        A block of its loaded model comes first, then one of a model that no worker has loaded, then one of the model
        with the most blocks for each worker.
        """
        free = [a for a in self._waiting.values() if self._gpu_of.get(a.block.block_id, gpu) == gpu]
        if not free:
            return None
        loaded = self._model_of_worker.pop(gpu, None)
        num_waiting = Counter(assignment.block.model.label for assignment in free)
        num_workers = Counter(self._model_of_worker.values())

        def urgency(assignment: Assignment) -> tuple[bool, float]:
            model = assignment.block.model.label
            return model == loaded, num_waiting[model] / (1 + num_workers[model])

        chosen = max(free, key=urgency)  # of equals, the first in the sweep's order
        self._model_of_worker[gpu] = chosen.block.model.label
        self._gpu_of[chosen.block.block_id] = gpu
        return self._waiting.pop(chosen.block.block_id)

    def give_back(self, assignment: Assignment, finished: Collection[str]) -> str | None:
        """Take back a block whose worker died, without its finished trials.

        Returns: the id of the trial that was running, if `MAX_STRIKES` workers have died during it. It is not run
            again. None otherwise.
        """
        left = [
            t.trial_id
            for t in assignment.block.trials
            if t.trial_id in assignment.trial_ids and t.trial_id not in finished
        ]
        if not left:
            return None
        suspect: str | None = left[0]
        self._strikes[left[0]] += 1
        if self._strikes[left[0]] >= MAX_STRIKES:
            left = left[1:]
        else:
            suspect = None
        if left:
            self._waiting[assignment.block.block_id] = Assignment(block=assignment.block, trial_ids=frozenset(left))
        return suspect

    def lose_gpu(self, gpu: str) -> None:
        """Let the blocks that waited for a lost GPU go to other GPUs."""
        self._gpu_of = {block_id: owner for block_id, owner in self._gpu_of.items() if owner != gpu}
        self._model_of_worker.pop(gpu, None)
