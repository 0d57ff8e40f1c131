"""What a worker tells the aggregator: the state of its GPU, events, and trials that have ended."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from runner.results.live import Event, EventLevel, GpuView
from runner.results.measurement import Identity, Measurement, Placement
from runner.tasks.task import Sample
from runner.timebase import TimeSource

MAX_UNWRITTEN = 1
"""Trials that may wait for the disk. A kill loses so many more, and a full disk shows so many trials later."""


class Reporter:
    """Reports on one GPU. It waits for trials alone, and any thread may use it.

    Args:
        aggregator: an actor handle.
    """

    def __init__(self, aggregator: Any, gpu_uuid: str, time_source: TimeSource) -> None:
        self._aggregator = aggregator
        self._gpu_uuid = gpu_uuid
        self._time_source = time_source
        self._unwritten: list[Any] = []

    def add_gpu(self, view: GpuView) -> None:
        """Tell the aggregator that the worker has its GPU."""
        self._aggregator.add_gpu.remote(view)

    def add_samples(self, task: str, samples: Sequence[Sample]) -> None:
        """Hand over a task's documents."""
        self._aggregator.add_samples.remote(task, samples)

    def update(self, **changes: Any) -> None:
        """Change fields of the GPU's `GpuView`."""
        self._aggregator.update_gpu.remote(self._gpu_uuid, **changes)

    def send_power(self, batch: pl.DataFrame) -> None:
        """Stream the readings of one second: [num_readings] rows of `tables.POWER`."""
        self._aggregator.add_power.remote(self._gpu_uuid, batch)

    def send_progress(self, *, window_start_ns: int, num_requests: int, num_tokens: int) -> None:
        """Tell how far the open window has come."""
        self._aggregator.report_progress.remote(
            self._gpu_uuid,
            time_ns=self._time_source.now_ns(),
            window_start_ns=window_start_ns,
            num_requests=num_requests,
            num_tokens=num_tokens,
        )

    def say(self, level: EventLevel, kind: str, message: str) -> None:
        """Report an event."""
        event = Event(
            time_ns=self._time_source.now_ns(), level=level, kind=kind, message=message, gpu_uuid=self._gpu_uuid
        )
        self._aggregator.report_event.remote(event)

    def finish(self, measurement: Measurement) -> None:
        """Hand over a measured trial, once the trial before it is written."""
        self.await_writes(MAX_UNWRITTEN)
        self._unwritten.append(self._aggregator.finish_trial.remote(measurement))

    def fail(self, identity: Identity, placement: Placement, error: Exception) -> None:
        """Hand over a failed trial, once the trial before it is written."""
        self.await_writes(MAX_UNWRITTEN)
        message = str(error) or type(error).__name__
        self._unwritten.append(
            self._aggregator.fail_trial.remote(identity, placement, message, self._time_source.now_ns())
        )

    def list_retries(self, trial_ids: Collection[str], lasting: Collection[str] = ()) -> frozenset[str]:
        """Return the trials that are to be measured once more, as `Aggregator.list_retries` decides."""
        import ray

        self.await_writes()
        answer: frozenset[str] = ray.get(self._aggregator.list_retries.remote(trial_ids, lasting))
        return answer

    def read_capacity(self, key: str) -> float | None:
        """Return the capacity that was found for a key, in requests/s; None where it was not sought yet."""
        import ray

        known: float | None = ray.get(self._aggregator.read_capacity.remote(key))
        return known

    def keep_capacity(self, key: str, about: Mapping[str, Any], capacity_per_s: float) -> float:
        """Keep a capacity, and return the one to use, as `Aggregator.keep_capacity` does."""
        import ray

        kept: float = ray.get(self._aggregator.keep_capacity.remote(key, about, capacity_per_s))
        return kept

    def await_writes(self, num_left: int = 0) -> None:
        """Wait until at most `num_left` trials are not written yet. Raises the errors of writing."""
        import ray

        while len(self._unwritten) > num_left:
            ray.get(self._unwritten.pop(0))
