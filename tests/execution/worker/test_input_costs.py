"""What the features of prompts cost, in virtual time, from the trials to the correlations."""

import io
import json
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from runner.analysis.advice.limits import NO_LIMITS
from runner.analysis.inputs.correlation import correlate
from runner.cli import app
from runner.display.report.build import build_document
from runner.display.report.exports import format_json
from runner.display.report.reading import read_study
from runner.display.report.terminal import render_report
from runner.execution.aggregator.aggregator import Aggregator
from runner.results.live import GpuView, SweepView
from runner.results.run_directory import RunStore
from runner.spec.request import Request
from runner.spec.sweep import parse_sweep
from runner.tasks.features.text import describe_samples
from runner.tasks.task import Sample
from tests.execution.trial_contexts import make_requests, open_context

NUM_PROMPTS = 24
CLOCKS_MHZ = (None, 990)
TASK = {"name": "synthetic", "label": "texts", "num_prompt_tokens": 1, "num_output_tokens": 1, "num_requests": 1}


def make_prompts() -> list[tuple[Request, Sample]]:
    """Make prompts and answers of many lengths. Every token is a word, and a random tenth of the words has a digit."""
    rng = random.Random(0)
    prompts = []
    for k in range(NUM_PROMPTS):
        (request,) = make_requests(rng.randint(50, 1500), rng.randint(8, 64), num_requests=1)
        words = [f"w{token_id}" if rng.random() < 0.1 else "word" for token_id in request.prompt_token_ids]
        sample_id = f"texts/{k}"
        request = replace(request, request_id=sample_id, sample_id=sample_id)
        prompts.append((request, Sample(sample_id=sample_id, text=" ".join(words))))
    return prompts


def measure_run(directory: Path, **procedure: float) -> pl.DataFrame:
    """Run the prompts one by one at two clocks, and correlate the tables of the run directory."""
    prompts = make_prompts()
    with open_context(directory) as context:
        uuid = context.gpu.info.uuid
        aggregator = Aggregator(directory / "run", SweepView(name="s", simulated=True, run_directory="", num_trials=2))
        aggregator.load_tasks(parse_sweep({"name": "s", "model": [{"id": "m"}], "task": [TASK]}))
        aggregator.add_gpu(GpuView(gpu_uuid=uuid, label="0", name="H200", simulated=True))
        aggregator.add_samples("texts", [sample for _, sample in prompts])
        for k, clock in enumerate(CLOCKS_MHZ):
            identity = {"trial_id": f"t{k}", "task": "texts", "concurrency": 1, "sm_clock_mhz_requested": clock}
            aggregator.finish_trial(context.measure([request for request, _ in prompts], identity, **procedure))
    store = RunStore(directory / "run")
    trials = store.read_trials()
    assert trials["verdicts"].list.len().to_list() == [0, 0]
    requests = store.scan_requests(trials["trial_id"].to_list()).collect()
    return correlate(requests, store.read_samples(), trials, num_resamples=100)


def test_measured_prompts_cost_what_their_lengths_ask_for(tmp_path: Path) -> None:
    found = measure_run(tmp_path, min_window_s=0.0, repeat_each_s=2.0)
    energy = {row["feature"]: row for row in found.filter(scope="task", target="energy_j").iter_rows(named=True)}
    assert energy["num_output_tokens"]["partial"] > 0.99
    assert energy["num_output_tokens"]["num_prompts"] == NUM_PROMPTS
    # More tokens, more energy, and more words, entropy and characters with them.
    for name in ("num_prompt_tokens", "num_words", "num_characters", "prompt_token_entropy_bits", "word_entropy_bits"):
        assert energy[name]["pearson"] is not None, name
    assert energy["num_prompt_tokens"]["partial"] > 0.9
    # The GPU knows nothing of digits.
    assert energy["digit_fraction"]["partial_q_value"] > 0.05
    assert set(found.filter(target="score")["reason"]) == {"random prompts have no right answer"}


def test_prompts_that_were_not_repeated_have_a_latency_and_no_energy(tmp_path: Path) -> None:
    found = measure_run(tmp_path, min_window_s=0.0).filter(scope="task", feature="num_output_tokens")
    by_target = {row["target"]: row for row in found.iter_rows(named=True)}
    assert by_target["energy_j"]["pearson"] is None
    assert "attributed by a rule" in by_target["energy_j"]["reason"]
    assert by_target["latency_s"]["pearson"] > 0.5


SWEEP = """
name = "inputs"
min_window_s = 0.0
axes = { concurrency = 1, sm_clock = ["default", "60%"] }
[[model]]
id = "no-weights"
twin = "llama-3.2-1b"
[[task]]
name = "tiny_qa"
limit = 24
repeat_each_s = 2.0
measure_surprise = true
"""


def test_from_a_sweep_file_to_the_table_of_correlations(run_here: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "inputs.toml"
    file.write_text(SWEEP)
    assert run_here(file).num_failed == 0
    store = RunStore(tmp_path / "run")
    study = read_study(store, NO_LIMITS)
    requests = store.scan_requests(study.trials["trial_id"].to_list()).collect()
    assert set(requests["energy_method"]) == {"measured"}
    assert requests["prompt_surprise_nats"].null_count() == requests.height  # asked, and the engine has none
    energy = study.correlations.filter(scope="all", target="energy_j", feature="num_prompt_tokens").row(0, named=True)
    assert energy["num_prompts"] == 24
    console = Console(file=io.StringIO(), width=100)
    console.print(render_report(build_document(study, store.read_manifest() or {}), 100))
    section = " ".join(console.file.getvalue().partition("What an input costs")[2].split())  # type: ignore[attr-defined]
    assert re.search(r"latency num_prompt_tokens \+1\.00 \+\d\.\d\d to \+1\.00 <0\.001 24 ", section)
    assert "its engine tells no log-likelihoods" in section
    assert "by construction" in section
    assert "correlations" in json.loads(format_json(study, {}))


class Recogniser:
    """Stands in for a spaCy pipeline, which is an optional extra. Every word with a capital is an entity."""

    pipe_names = ("ner",)
    max_length = 10_000

    def pipe(self, texts: Iterable[str]) -> Iterator[SimpleNamespace]:
        for text in texts:
            yield SimpleNamespace(ents=[word for word in text.split() if word[0].isupper()])


@pytest.fixture
def described(tmp_path: Path) -> RunStore:
    """A run directory with two prompts and no trial yet."""
    store = RunStore(tmp_path / "run")
    sweep = parse_sweep({"name": "s", "model": [{"id": "m"}], "task": [TASK]})
    store.write_manifest({"sweep": sweep.model_dump(mode="json"), "options": {"read_only": True}})
    texts = ("Ada met Grace", "nobody came")
    store.write_samples(describe_samples("qa", [Sample(sample_id=text, text=text) for text in texts]))
    return store


def test_entities_are_counted_into_the_run_when_its_report_asks(
    described: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=lambda *_, **__: Recogniser()))
    before = described.read_samples()
    result = CliRunner().invoke(app, ["report", str(described.directory), "--entities", "en_core_web_sm"])
    assert (result.exit_code, result.stderr) == (0, "")
    samples = described.read_samples()
    assert samples["entities_per_100_words"].to_list() == [pytest.approx(200 / 3), 0.0]
    assert samples["entities_pipeline"].to_list() == ["en_core_web_sm"] * 2
    counted = ("entities_per_100_words", "entities_reason", "entities_pipeline")
    assert samples.drop(counted).equals(before.drop(counted))


def test_without_spacy_the_report_says_once_how_to_install_it_and_goes_on(
    described: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    before = described.read_samples()
    result = CliRunner().invoke(app, ["report", str(described.directory), "--entities", "en_core_web_sm"])
    assert result.exit_code == 0
    assert result.stderr.count("pip install spacy && python -m spacy download en_core_web_sm") == 1
    assert "No trial has finished yet" in result.stdout
    assert described.read_samples().equals(before)
