"""The aggregator: it analyses, scores and writes what the workers measured, and keeps the live view.

Each run has one, an actor beside the driver, so that scoring and writing never run in a worker's process. Batches of
power readings enter once a second, and a `Measurement` when a window closes. Trials in Parquet leave, and the live view
through `snapshot`.
"""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from runner.analysis.run.drift import describe_drift
from runner.analysis.window.evidence import find_foreign_processes
from runner.analysis.window.trial_row import TrialQuality, analyse_trial, build_failed_row
from runner.analysis.window.verdicts import can_retry
from runner.execution.aggregator.live_gpu import LiveGpu
from runner.execution.aggregator.output_agreement import OutputAgreement
from runner.results.live import Event, GpuView, SweepView
from runner.results.measurement import Identity, Measurement, Placement
from runner.results.run_directory import RunStore
from runner.results.tables import POWER, REQUESTS
from runner.spec.load import SINGLE
from runner.spec.request import Completion
from runner.spec.sweep import SweepSpec
from runner.spec.trial import make_row_id
from runner.tasks.features.text import describe_samples
from runner.tasks.loading import load_task
from runner.tasks.task import Sample, Task

NUM_EVENTS = 50
_CUT_SHORT = "the window ended within its first round, so not every sample is answered (num_requests_left_out)"


class Aggregator:
    """Writes a run directory and keeps the live view. Calls run one at a time, as an actor queues them."""

    def __init__(self, directory: Path, view: SweepView) -> None:
        self._store = RunStore(directory)
        self._view = view
        self._tasks: dict[str, Task] = {}
        self._gpus: dict[str, LiveGpu] = {}
        self._events: deque[Event] = deque(maxlen=NUM_EVENTS)
        self._agreement = OutputAgreement()
        self._sentinels: dict[str, dict[str, Any]] = {}
        self._num_samples_of: dict[str, int] = {}
        self._samples = self._store.read_samples()

    def load_tasks(self, sweep: SweepSpec) -> None:
        """Load the tasks, which score the completions, before the first trial.

        Raises: TaskError: a task does not exist or its data is not available.
        """
        for spec in sweep.task:
            self._tasks[spec.display_name] = load_task(
                spec.for_load(SINGLE),  # scoring asks for no number of requests
                seed=sweep.seed,
                max_output_tokens=sweep.max_output_tokens,
                fixed_output_length=sweep.fixed_output_length,
            )

    # calls by workers ------------------------------------------------------------------------------------------------

    def add_gpu(self, view: GpuView) -> None:
        """Add the GPU of a worker to the live view."""
        self._gpus[view.gpu_uuid] = LiveGpu(view)

    def add_power(self, gpu_uuid: str, batch: pl.DataFrame) -> None:
        """Take the readings of one second: [num_readings] rows of `tables.POWER`."""
        self._gpus[gpu_uuid].add_power(batch)

    def update_gpu(self, gpu_uuid: str, **changes: Any) -> None:
        """Change fields of a GPU's view. A new phase ends the window that was open."""
        self._gpus[gpu_uuid].update(changes)

    def report_progress(self, gpu_uuid: str, **progress: int) -> None:
        """Take the progress of an open window, as `LiveGpu.report_progress` does."""
        self._gpus[gpu_uuid].report_progress(**progress)

    def report_event(self, event: Event) -> None:
        """Keep an event among the last ones, and append it to events.jsonl."""
        self._events.append(event)
        self._store.append_event(event)

    def add_samples(self, task: str, samples: list[Sample]) -> None:
        """Take a task's documents. They are written to samples.parquet with their features.

        A task whose number of requests follows the load has more of them in a later block.
        """
        if len(samples) <= self._num_samples_of.get(task, -1):
            return
        self._num_samples_of[task] = len(samples)
        # An earlier run may have had other documents of this task, with another limit. Those of other tasks stay.
        others = self._samples.filter(pl.col("task") != task)
        rows = [others, describe_samples(task, samples)]
        self._samples = pl.concat(rows, how="diagonal")  # an earlier release knew fewer features
        self._store.write_samples(self._samples)

    def finish_trial(self, measurement: Measurement) -> list[str]:
        """Analyse, score and write a measured trial. A finished trial is not written again.

        A trial whose analysis raises becomes a failed row: an error of ours loses one trial, and not the run.

        Returns: the trial's verdicts.
        """
        identity = measurement.identity
        if self._store.is_finished(identity.row_id):  # handed over before a worker or an aggregator died
            return []
        try:
            analysed = analyse_trial(measurement, *self._score(measurement))
        except Exception as error:
            reason = f"what was measured could not be analysed: {type(error).__name__}: {error}"
            self.fail_trial(identity, measurement.placement, reason, measurement.start_ns)
            return []
        row = analysed.row
        self._store.write_trial(row, analysed.requests, measurement.power)
        verdicts: list[str] = row["verdicts"]
        if identity.attempt == 1:  # a second attempt adds a row, and no trial
            self._gpus[measurement.placement.gpu_uuids[0]].count_trial()
            self._view = replace(
                self._view,
                num_done=self._view.num_done + 1,
                num_with_verdicts=self._view.num_with_verdicts + bool(verdicts),
                energy_j=self._view.energy_j + (row["energy_j"] or 0.0),
            )
        self.report_event(
            Event(
                time_ns=measurement.end_ns,
                level="warning" if verdicts else "info",
                kind="trial_finished",
                message=_describe_trial(row),
                trial_id=identity.row_id,
                gpu_uuid=measurement.placement.gpu_uuids[0],
            )
        )
        if foreign := sorted(find_foreign_processes(measurement)):
            others = ", ".join(map(str, foreign))
            self._warn(row, "foreign_process", f"process {others} is on the GPU beside the engine")
        if identity.is_sentinel and not verdicts:
            before = self._sentinels.get(identity.block_id)
            self._sentinels[identity.block_id] = row
            if before and (drift := describe_drift(before, row)):
                message = f"{identity.task} on {identity.model} drifts: {drift} since the last sentinel"
                self._warn(row, "sentinel_drift", message)
        return verdicts

    def _warn(self, row: Mapping[str, Any], kind: str, message: str) -> None:
        """Report a warning about a trial."""
        self.report_event(
            Event(
                time_ns=row["start_ns"],
                level="warning",
                kind=kind,
                message=message,
                trial_id=row["trial_id"],
                gpu_uuid=row["gpu_uuids"][0],
            )
        )

    def list_retries(self, trial_ids: Collection[str], lasting: Collection[str] = ()) -> frozenset[str]:
        """Return the trials whose verdicts may not come back, and that have no second attempt yet.

        It reads the run directory. A worker that goes on with a block thus retries what a worker that died, or an
        earlier run, has left.

        Args:
            lasting: verdicts that come back with the worker's engine.
        """
        rows = self._store.read_trials(trial_ids).select("trial_id", "verdicts").to_dicts()
        verdicts = {row["trial_id"]: row["verdicts"] for row in rows}
        return frozenset(
            i for i in trial_ids if can_retry(verdicts.get(i, ()), lasting) and make_row_id(i, 2) not in verdicts
        )

    def read_capacity(self, key: str) -> float | None:
        """Return the capacity that a worker, or an earlier run, has found for a key."""
        return self._store.read_capacity(key)

    def keep_capacity(self, key: str, about: Mapping[str, Any], capacity_per_s: float) -> float:
        """Keep a capacity, and return the one that all workers use: the first that was found for the key."""
        known = self._store.read_capacity(key)
        if known is not None:
            return known
        self._store.append_capacity(key, about, capacity_per_s)
        return capacity_per_s

    def fail_trial(self, identity: Identity, placement: Placement, error: str, time_ns: int) -> None:
        """Write the row of a failed trial, unless it is finished."""
        if self._store.is_finished(identity.row_id):
            return
        row = build_failed_row(identity, placement, error, time_ns)
        self._store.write_trial(row, pl.DataFrame(schema=REQUESTS), pl.DataFrame(schema=POWER))
        if identity.attempt == 1:
            self._view = replace(self._view, num_done=self._view.num_done + 1, num_failed=self._view.num_failed + 1)
        self.report_event(
            Event(
                time_ns=time_ns,
                level="error",
                kind="trial_failed",
                message=f"{identity.task} on {identity.model} failed: {error.splitlines()[0]}",
                trial_id=identity.row_id,
                gpu_uuid=placement.gpu_uuids[0] if placement.gpu_uuids else None,
            )
        )

    # calls by the driver -----------------------------------------------------------------------------------

    def remember_reference(self, block_id: str, trial_id: str) -> None:
        """In a resumed run, take the outputs of a block's first default-clock trial from disk."""
        requests = self._store.read_requests(trial_id).filter((pl.col("round") == 0) & pl.col("text").is_not_null())
        if requests.height:
            outputs = dict(zip(requests["request_id"], requests["text"], strict=True))
            self._agreement.remember(block_id, outputs)

    def set_times(self, elapsed_s: float, remaining_s: float | None) -> None:
        """Take how long the sweep has run and will run, in s, by the driver's estimate."""
        self._view = replace(self._view, elapsed_s=elapsed_s, remaining_s=remaining_s)

    def snapshot(self) -> SweepView:
        """Return the live view."""
        gpus = tuple(sorted((gpu.draw() for gpu in self._gpus.values()), key=lambda gpu: gpu.label))
        return replace(self._view, gpus=gpus, events=tuple(self._events))

    # scores ----------------------------------------------------------------------------------------------------------

    def _score(self, measurement: Measurement) -> tuple[TrialQuality, Mapping[str, float]]:
        """Return the trial's quality, and the score of each sample by its id."""
        if measurement.identity.phase_role is not None:
            return TrialQuality(quality_reason="its outputs were cut short to tell prefill from decoding"), {}
        first_round = measurement.first_round
        task = self._tasks[measurement.identity.task]
        agreement, agreement_default = self._agreement.compare(measurement.identity, first_round)
        try:
            quality = task.score(first_round)
        except Exception as error:  # an error in a metric must not lose the measured energy
            reason = f"scoring failed: {type(error).__name__}: {error}"
            return TrialQuality(
                quality_reason=reason, output_agreement=agreement, output_agreement_default=agreement_default
            ), {}
        if quality.value is not None and _is_cut_short(measurement, first_round):
            quality = replace(quality, value=None, stderr=None, reason=_CUT_SHORT)
        return TrialQuality(
            quality=quality.value,
            quality_metric=quality.metric,
            quality_higher_is_better=quality.higher_is_better,
            quality_stderr=quality.stderr,
            quality_reason=quality.reason,
            quality_chance=task.chance if quality.value is not None else None,
            output_agreement=agreement,
            output_agreement_default=agreement_default,
        ), quality.per_sample


def _is_cut_short(measurement: Measurement, first_round: Sequence[Completion]) -> bool:
    """Whether a window ended within its first round, so that not every sample has an answer."""
    return bool(measurement.num_requests_left_out) and len(first_round) == len(measurement.completions)


def _describe_trial(row: Mapping[str, Any]) -> str:
    clock = f"{row['sm_clock_mhz_requested']} MHz" if row["sm_clock_mhz_requested"] else "default clock"
    clock += ", once more" if row["attempt"] > 1 else ""
    generates = row["request_kind"] == "generate"
    joules = row.get("joules_per_output_token" if generates else "joules_per_prompt_token")
    cost = f"{joules:.3g} J/{'token' if generates else 'prompt token'}" if joules is not None else "no energy"
    quality = f", {row['quality_metric']} {row['quality']:.3f}" if row["quality"] is not None else ""
    verdicts = f" [{', '.join(row['verdicts'])}]" if row["verdicts"] else ""
    return f"{row['task']} on {row['model']} at {clock}: {cost}, {row['duration_s']:.1f} s{quality}{verdicts}"
