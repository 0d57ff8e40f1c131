"""The aggregator as a plain object, without Ray."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from runner.execution.aggregator.aggregator import Aggregator
from runner.results.live import Event, GpuView, SweepView
from runner.results.measurement import Measurement
from runner.results.run_directory import RunStore
from runner.results.tables import POWER, REQUESTS, TRIALS
from runner.spec.request import Completion
from runner.spec.sweep import parse_sweep
from runner.tasks.synthetic import SyntheticTask
from runner.tasks.task import Quality, Sample, TaskError
from tests.execution.trial_contexts import VirtualContext, make_identity, make_placement, make_requests, open_context

TASK = {"name": "synthetic", "num_prompt_tokens": 128, "num_output_tokens": 64, "num_requests": 40}


def make_sweep(**changes: Any) -> Any:
    return parse_sweep({"name": "s", "model": [{"id": "m"}], "task": [TASK]} | changes)


def make_aggregator(directory: Path, gpu_uuid: str) -> Aggregator:
    view = SweepView(name="s", simulated=True, run_directory=str(directory), num_trials=9)
    aggregator = Aggregator(directory, view)
    aggregator.load_tasks(make_sweep())
    aggregator.add_gpu(GpuView(gpu_uuid=gpu_uuid, label="0", name="H200", simulated=True))
    return aggregator


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualContext]:
    with open_context(tmp_path_factory.mktemp("context")) as opened:
        yield opened


@pytest.fixture(scope="module")
def measured(context: VirtualContext) -> Measurement:
    """One measurement of at least three rounds, which every test uses."""
    return context.measure(make_requests(), {"sm_clock_mhz_requested": 1200}, min_window_s=4.0, idle_power_w=124.0)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "run")


@pytest.fixture
def aggregator(store: RunStore, context: VirtualContext) -> Aggregator:
    return make_aggregator(store.directory, context.gpu.info.uuid)


def with_texts(measured: Measurement, texts: Sequence[str | None], **identity: Any) -> Measurement:
    """Return the measurement as another trial, whose requests answered with `texts` in each round."""
    completions = [
        replace(completion, text=texts[int(completion.sample_id.rpartition("/")[2]) % len(texts)])
        for completion in measured.completions
    ]
    changes = {"sm_clock_mhz_requested": None} | identity
    return replace(measured, identity=make_identity(**changes), completions=completions)


def read_row(store: RunStore, trial_id: str) -> dict[str, Any]:
    (row,) = store.read_trials([trial_id]).to_dicts()
    return row


# trials --------------------------------------------------------------------------------------------------------------


def test_a_measured_trial_becomes_a_row_its_requests_and_its_trace(
    aggregator: Aggregator, store: RunStore, measured: Measurement
) -> None:
    assert aggregator.finish_trial(measured) == []
    row = read_row(store, "t0")
    assert set(row) == set(TRIALS)
    assert (row["status"], row["verdicts"], row["sm_clock_mhz"]) == ("ok", [], 1200.0)
    assert row["num_requests"] == len(measured.completions)
    assert row["energy_above_idle_j"] == pytest.approx(row["energy_j"] - 124.0 * row["duration_s"])
    assert (row["quality"], row["quality_reason"]) == (None, "random prompts have no right answer")
    requests = store.read_requests("t0")
    assert requests.schema == pl.Schema(REQUESTS)
    assert requests["num_output_tokens"].sum() == row["num_output_tokens"]
    assert store.read_power("t0").equals(measured.power.select(list(POWER)))
    assert store.finished_trial_ids() == {"t0"}


def test_the_energy_of_a_trial_is_handed_out_to_its_requests(
    aggregator: Aggregator, store: RunStore, measured: Measurement
) -> None:
    aggregator.finish_trial(measured)
    row, requests = read_row(store, "t0"), store.read_requests("t0")
    assert set(requests["energy_method"]) == {"attributed"}
    assert requests["energy_j"].min() > 0
    assert row["unattributed_energy_j"] is not None
    assert requests["energy_j"].sum() + row["unattributed_energy_j"] == pytest.approx(row["energy_j"], rel=1e-9)


def test_paired_trials_are_neither_scored_nor_compared(
    aggregator: Aggregator, store: RunStore, measured: Measurement
) -> None:
    aggregator.finish_trial(with_texts(measured, ["cut short"], phase_role="one_token"))
    aggregator.finish_trial(with_texts(measured, ["whole"], trial_id="t1"))
    aggregator.finish_trial(with_texts(measured, ["whole"], trial_id="t2"))
    row = read_row(store, "t0")
    assert (row["phase_role"], row["quality"], row["output_agreement"]) == ("one_token", None, None)
    assert row["quality_reason"] == "its outputs were cut short to tell prefill from decoding"
    assert read_row(store, "t2")["output_agreement"] == 1.0


class ScoredTask(SyntheticTask):
    """A task that scores any answers."""

    def score(self, completions: Sequence[Completion]) -> Quality:
        per_sample = {completion.sample_id: 1.0 for completion in completions}
        return Quality(metric="acc", higher_is_better=True, value=1.0, stderr=0.0, per_sample=per_sample)


def test_a_window_that_ends_within_its_first_round_has_no_quality(
    aggregator: Aggregator, store: RunStore, measured: Measurement
) -> None:
    task = ScoredTask(num_prompt_tokens=128, num_output_tokens=64, num_requests=40, seed=0)
    aggregator._tasks["synthetic-128x64"] = task
    first_round = [completion for completion in measured.completions if completion.round == 0]
    cut = replace(measured, completions=first_round[:30], num_requests_left_out=10)
    later = replace(measured, identity=make_identity(trial_id="t1"), num_requests_left_out=10)
    for measurement in (cut, later):
        aggregator.finish_trial(measurement)
    row = read_row(store, "t0")
    assert (row["quality"], row["quality_stderr"], row["quality_metric"]) == (None, None, "acc")
    assert row["quality_reason"] == (
        "the window ended within its first round, so not every sample is answered (num_requests_left_out)"
    )
    assert store.read_requests("t0")["score"].to_list() == [1.0] * 30
    assert row["num_requests_left_out"] == 10
    assert (read_row(store, "t1")["quality"], read_row(store, "t1")["quality_reason"]) == (1.0, None)
    # A task without a score has its own reason.
    aggregator._tasks["synthetic-128x64"] = SyntheticTask(
        num_prompt_tokens=128, num_output_tokens=64, num_requests=40, seed=0
    )
    aggregator.finish_trial(replace(cut, identity=make_identity(trial_id="t2")))
    assert read_row(store, "t2")["quality_reason"] == "random prompts have no right answer"


def test_a_task_whose_number_of_requests_follows_the_load_keeps_all_its_samples(
    aggregator: Aggregator, store: RunStore
) -> None:
    aggregator.load_tasks(make_sweep(task=[TASK | {"num_requests": "4 per slot"}]))
    for num_samples in (4, 32, 4):
        samples = [Sample(sample_id=f"synthetic/{i}", text=None) for i in range(num_samples)]
        aggregator.add_samples("synthetic-128x64", samples)
    assert store.read_samples().height == 32


def test_the_live_view_and_the_events_follow(aggregator: Aggregator, store: RunStore, measured: Measurement) -> None:
    aggregator.finish_trial(measured)
    short = replace(measured, identity=make_identity(trial_id="t1"), end_ns=measured.start_ns + 10**9)
    assert "window_too_short" in aggregator.finish_trial(short)
    view = aggregator.snapshot()
    assert (view.num_done, view.num_failed, view.num_with_verdicts) == (2, 0, 1)
    assert view.energy_j == pytest.approx(store.read_trials()["energy_j"].sum())
    assert view.gpus[0].num_trials_done == 2
    events = [json.loads(line) for line in (store.directory / "events.jsonl").read_text().splitlines()]
    assert [(event["level"], event["kind"], event["trial_id"]) for event in events] == [
        ("info", "trial_finished", "t0"),
        ("warning", "trial_finished", "t1"),
    ]
    assert "at 1200 MHz" in events[0]["message"]
    assert "J/token" in events[0]["message"]
    assert "[window_too_short" in events[1]["message"]
    assert [event.message for event in view.events] == [event["message"] for event in events]


def test_a_failed_trial_is_a_row_too_with_what_was_asked_and_why(aggregator: Aggregator, store: RunStore) -> None:
    identity = make_identity(sm_clock_mhz_requested=1200, repeat=2)
    aggregator.fail_trial(identity, make_placement(), "the engine died\nTraceback: ...", time_ns=7)
    row = read_row(store, "t0")
    assert (row["status"], row["sm_clock_mhz_requested"], row["repeat"], row["start_ns"]) == ("failed", 1200, 2, 7)
    assert row["error"] == "the engine died\nTraceback: ..."
    assert row["energy_j"] is None
    assert store.finished_trial_ids() == frozenset()
    view = aggregator.snapshot()
    assert (view.num_done, view.num_failed, view.energy_j) == (1, 1, 0.0)
    assert view.events[-1].message == "synthetic-128x64 on m failed: the engine died"


# evidence and retries ------------------------------------------------------------------------------------------------


def test_what_cannot_be_analysed_is_a_failed_row_and_costs_nothing_else(
    aggregator: Aggregator, store: RunStore, measured: Measurement
) -> None:
    backwards = replace(measured, identity=make_identity(trial_id="t1"), end_ns=measured.start_ns - 1)
    assert aggregator.finish_trial(backwards) == []
    row = read_row(store, "t1")
    assert (row["status"], row["energy_j"]) == ("failed", None)
    assert row["error"].startswith("what was measured could not be analysed: ValueError: the window ends")
    aggregator.finish_trial(measured)
    assert read_row(store, "t0")["status"] == "ok"


def with_foreign_process(measured: Measurement, **identity: Any) -> Measurement:
    """Return the measurement as another trial, with a foreign process, 4711."""
    return replace(
        measured,
        identity=make_identity(**identity),
        engine_process_ids=frozenset({7}),
        edge_end=replace(measured.edge_end, process_ids=frozenset({7, 4711})),
    )


def test_what_is_finished_is_never_written_again(
    aggregator: Aggregator, store: RunStore, measured: Measurement
) -> None:
    aggregator.fail_trial(measured.identity, measured.placement, "the worker died", 1)
    aggregator.finish_trial(measured)
    before = store.read_trials()
    assert before["status"].to_list() == ["ok"]
    # Two workers may measure one trial where the first died before it was known to have handed it over.
    aggregator.finish_trial(replace(measured, idle_power_w=1.0))
    aggregator.fail_trial(measured.identity, measured.placement, "two workers died while it ran", 2)
    assert store.read_trials().equals(before)
    assert [event.kind for event in aggregator.snapshot().events] == ["trial_failed", "trial_finished"]


def test_what_a_retry_can_help_is_listed_once(
    aggregator: Aggregator, store: RunStore, context: VirtualContext, measured: Measurement
) -> None:
    wanted = ["sound", "shared", "short", "failed", "missing"]
    aggregator.finish_trial(replace(measured, identity=make_identity(trial_id="sound")))
    aggregator.finish_trial(with_foreign_process(measured, trial_id="shared"))
    short = replace(measured, identity=make_identity(trial_id="short"), end_ns=measured.start_ns + 10**9)
    aggregator.finish_trial(short)
    aggregator.fail_trial(make_identity(trial_id="failed"), make_placement(), "the engine died", time_ns=7)
    assert aggregator.list_retries(wanted) == {"shared"}
    # A worker that took over, or a later run, is told the same.
    assert make_aggregator(store.directory, context.gpu.info.uuid).list_retries(wanted) == {"shared"}
    assert aggregator.list_retries(["sound"]) == frozenset()

    first = read_row(store, "shared")
    retry = with_foreign_process(measured, trial_id="shared", attempt=2)
    assert aggregator.finish_trial(retry) == ["foreign_process"]
    assert aggregator.list_retries(wanted) == frozenset()  # once, whatever came of it
    rows = {row["trial_id"]: row for row in store.read_trials(["shared"]).to_dicts()}
    assert rows["shared"] == first
    assert (rows["shared-2"]["attempt"], rows["shared-2"]["verdicts"]) == (2, ["foreign_process"])


def test_a_retry_is_no_further_trial(aggregator: Aggregator, measured: Measurement) -> None:
    aggregator.finish_trial(with_foreign_process(measured, trial_id="t0"))
    before = aggregator.snapshot()
    aggregator.finish_trial(replace(measured, identity=make_identity(trial_id="t0", attempt=2)))
    aggregator.fail_trial(make_identity(trial_id="t1", attempt=2), make_placement(), "the engine died", time_ns=7)
    view = aggregator.snapshot()
    assert replace(view, events=(), gpus=()) == replace(before, events=(), gpus=())
    assert view.gpus[0].num_trials_done == 1
    assert "once more" in view.events[-2].message


def test_a_foreign_process_is_named(aggregator: Aggregator, measured: Measurement) -> None:
    assert aggregator.finish_trial(with_foreign_process(measured)) == ["foreign_process"]
    event = aggregator.snapshot().events[-1]
    assert (event.level, event.kind, event.trial_id) == ("warning", "foreign_process", "t0")
    assert event.message == "process 4711 is on the GPU beside the engine"


def test_a_sentinel_that_deviates_is_told_as_it_happens(aggregator: Aggregator, measured: Measurement) -> None:
    def finish(trial_id: str, factor: float, **identity: Any) -> list[str]:
        """Return a sentinel whose GPU drew `factor` times the power."""
        power = measured.power.with_columns(pl.col("power_w") * factor)
        changes = {"trial_id": trial_id, "is_sentinel": True} | identity
        no_counter = {"counter_start": None, "counter_end": None}
        trial = replace(measured, identity=make_identity(**changes), power=power, **no_counter)
        assert aggregator.finish_trial(trial) == []
        return [event.message for event in aggregator.snapshot().events if event.kind == "sentinel_drift"]

    assert finish("s0", 1.0) == []
    assert finish("s1", 1.01) == []
    assert finish("other", 1.2, block_id="b1") == []
    assert finish("point", 1.2, is_sentinel=False) == []
    told = finish("s2", 1.06)
    assert told == ["synthetic-128x64 on m drifts: energy per token +5.0% since the last sentinel"]
    assert finish("s3", 1.06) == told


def test_power_and_progress_reach_the_view(
    aggregator: Aggregator, context: VirtualContext, measured: Measurement
) -> None:
    uuid = context.gpu.info.uuid
    aggregator.add_power(uuid, measured.power)
    aggregator.update_gpu(uuid, phase="measuring", task="t")
    aggregator.report_progress(
        uuid, time_ns=measured.end_ns, window_start_ns=measured.start_ns, num_requests=5, num_tokens=1000
    )
    aggregator.set_times(12.0, 30.0)
    view = aggregator.snapshot()
    (gpu,) = view.gpus
    assert (gpu.phase, gpu.task, gpu.num_requests_done, gpu.sm_clock_mhz) == ("measuring", "t", 5, 1200)
    assert gpu.joules_per_token is not None
    assert gpu.power_w is not None
    assert (view.elapsed_s, view.remaining_s) == (12.0, 30.0)


def test_only_the_last_events_are_kept_for_the_view_and_all_on_disk(aggregator: Aggregator, store: RunStore) -> None:
    for k in range(60):
        aggregator.report_event(Event(time_ns=k, level="info", kind="k", message=str(k)))
    assert [event.message for event in aggregator.snapshot().events] == [str(k) for k in range(10, 60)]
    assert len((store.directory / "events.jsonl").read_text().splitlines()) == 60


def test_a_task_that_does_not_exist_is_an_error_before_anything_is_measured(aggregator: Aggregator) -> None:
    with pytest.raises(TaskError, match="boolqq"):
        aggregator.load_tasks(make_sweep(task=[{"name": "boolqq"}]))


# scores --------------------------------------------------------------------------------------------------------------


def test_the_first_round_is_scored_under_its_plain_ids(
    aggregator: Aggregator, store: RunStore, measured: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(_: SyntheticTask, completions: Sequence[Completion]) -> Quality:
        assert sorted(c.request_id for c in completions) == sorted(r.request_id for r in make_requests())
        scores = {completion.sample_id: 0.5 for completion in completions}
        return Quality(metric="acc", higher_is_better=True, value=0.5, stderr=0.05, per_sample=scores)

    monkeypatch.setattr(SyntheticTask, "score", score)
    monkeypatch.setattr(SyntheticTask, "chance", 0.25)
    assert any(c.round == 1 for c in measured.completions)
    aggregator.finish_trial(measured)
    row = read_row(store, "t0")
    assert (row["quality"], row["quality_metric"], row["quality_stderr"]) == (0.5, "acc", 0.05)
    assert store.read_requests("t0")["score"].to_list() == [0.5] * len(measured.completions)


def test_a_metric_that_fails_costs_the_quality_and_not_the_energy(
    aggregator: Aggregator, store: RunStore, measured: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Quality:
        raise ZeroDivisionError("no documents")

    monkeypatch.setattr(SyntheticTask, "score", fail)
    aggregator.finish_trial(measured)
    row = read_row(store, "t0")
    assert row["status"] == "ok"
    assert row["energy_j"] > 0
    assert (row["quality"], row["quality_reason"]) == (None, "scoring failed: ZeroDivisionError: no documents")


# output agreement ----------------------------------------------------------------------------------------------------


def agreement(store: RunStore, trial_id: str) -> tuple[float | None, float | None]:
    row = read_row(store, trial_id)
    return row["output_agreement"], row["output_agreement_default"]


def test_outputs_are_compared_with_the_blocks_first_default_trial(
    aggregator: Aggregator, store: RunStore, measured: Measurement
) -> None:
    aggregator.finish_trial(with_texts(measured, ["a", "b", "c", "d"], trial_id="t0"))
    aggregator.finish_trial(with_texts(measured, ["a", "b", "c", "x"], trial_id="t1", sm_clock_mhz_requested=990))
    aggregator.finish_trial(with_texts(measured, ["a", "x", "c", "d"], trial_id="t2"))
    aggregator.finish_trial(with_texts(measured, ["x", "x", "c", "d"], trial_id="t3", power_limit_w_requested=400.0))
    assert agreement(store, "t0") == (None, None)  # it is the reference
    assert agreement(store, "t1") == (0.75, None)  # two default trials are not there yet
    assert agreement(store, "t2") == (0.75, 0.75)
    assert agreement(store, "t3") == (0.5, 0.75)


def test_blocks_have_references_of_their_own_and_a_lower_clock_is_none(
    aggregator: Aggregator, store: RunStore, measured: Measurement
) -> None:
    aggregator.finish_trial(with_texts(measured, ["a"], trial_id="t0"))
    aggregator.finish_trial(with_texts(measured, ["b"], trial_id="t1", block_id="b1", sm_clock_mhz_requested=990))
    aggregator.finish_trial(with_texts(measured, ["b"], trial_id="t2", block_id="b1"))
    assert agreement(store, "t1") == agreement(store, "t2") == (None, None)


def test_without_a_tokenizer_the_tokens_are_compared(
    aggregator: Aggregator, store: RunStore, measured: Measurement
) -> None:
    for trial_id, token in (("t0", 1), ("t1", 1), ("t2", 2)):
        trial = with_texts(measured, [None], trial_id=trial_id)
        completions = [replace(c, output_token_ids=(token, 5)) for c in trial.completions]
        aggregator.finish_trial(replace(trial, completions=completions))
    assert agreement(store, "t1") == (1.0, 1.0)
    assert agreement(store, "t2") == (0.0, 1.0)


def test_where_nothing_is_generated_nothing_agrees(
    aggregator: Aggregator, store: RunStore, measured: Measurement
) -> None:
    """The simulated engine generates no tokens."""
    for trial_id in ("t0", "t1"):
        aggregator.finish_trial(with_texts(measured, [None], trial_id=trial_id))
    assert agreement(store, "t1") == (None, None)


def test_a_resumed_run_takes_its_reference_from_disk(
    aggregator: Aggregator, store: RunStore, context: VirtualContext, measured: Measurement
) -> None:
    aggregator.finish_trial(with_texts(measured, ["a", "b", "c", "d"], trial_id="t0"))
    later = make_aggregator(store.directory, context.gpu.info.uuid)
    later.remember_reference("b0", "t0")
    later.finish_trial(with_texts(measured, ["a", "b", "x", "x"], trial_id="t1", sm_clock_mhz_requested=990))
    assert agreement(store, "t1") == (0.5, None)


def test_a_reference_without_a_text_is_no_reference(
    aggregator: Aggregator, store: RunStore, measured: Measurement
) -> None:
    aggregator.finish_trial(with_texts(measured, [None], trial_id="t0"))
    aggregator.remember_reference("b0", "t0")
    aggregator.finish_trial(with_texts(measured, ["a"], trial_id="t1", sm_clock_mhz_requested=990))
    assert agreement(store, "t1") == (None, None)


# documents -----------------------------------------------------------------------------------------------------------


def samples_of(store: RunStore) -> list[tuple[Any, ...]]:
    return store.read_samples().select("task", "sample_id", "num_characters", "num_words").rows()


def test_documents_are_written_once_with_their_lengths(aggregator: Aggregator, store: RunStore) -> None:
    samples = [Sample(sample_id="0", text="Wie weit ist's?"), Sample(sample_id="1", text=None)]
    aggregator.add_samples("boolq", samples)
    aggregator.add_samples("boolq", [Sample(sample_id="9", text="a worker says it again")])
    aggregator.add_samples("piqa", [Sample(sample_id="0", text="")])
    assert samples_of(store) == [("boolq", "0", 15, 3), ("boolq", "1", None, None), ("piqa", "0", 0, 0)]


def test_a_resumed_run_keeps_the_documents_of_tasks_that_were_finished(
    aggregator: Aggregator, store: RunStore, context: VirtualContext
) -> None:
    aggregator.add_samples("boolq", [Sample(sample_id="0", text="one")])
    aggregator.add_samples("piqa", [Sample(sample_id="0", text="one")])
    later = make_aggregator(store.directory, context.gpu.info.uuid)
    later.add_samples("piqa", [Sample(sample_id="0", text="one"), Sample(sample_id="1", text="two")])
    assert samples_of(store) == [("boolq", "0", 3, 1), ("piqa", "0", 3, 1), ("piqa", "1", 3, 1)]


def test_documents_are_written_with_the_features_of_their_texts(aggregator: Aggregator, store: RunStore) -> None:
    aggregator.add_samples("boolq", [Sample(sample_id="0", text="yes or no or 42")])
    row = store.read_samples().row(0, named=True)
    assert (row["type_token_ratio"], row["digit_fraction"]) == pytest.approx((4 / 5, 2 / 15))


def test_a_run_of_an_earlier_release_is_resumed_with_fewer_features(store: RunStore, context: VirtualContext) -> None:
    earlier = {"task": ["boolq"], "sample_id": ["0"], "num_characters": [3], "num_words": [1], "text": ["one"]}
    store.directory.mkdir(parents=True)
    pl.DataFrame(earlier).write_parquet(store.directory / "samples.parquet")
    make_aggregator(store.directory, context.gpu.info.uuid).add_samples("piqa", [Sample(sample_id="0", text="one two")])
    assert samples_of(store) == [("boolq", "0", 3, 1), ("piqa", "0", 7, 2)]
    assert store.read_samples()["type_token_ratio"].to_list() == [None, 1.0]
