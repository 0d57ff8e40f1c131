"""From prompts on a board to what their features cost, in virtual time: the tables of a run fit the correlations."""

import random
from dataclasses import replace
from pathlib import Path

import polars as pl
from benches import make_requests, open_bench

from runner.analysis.correlation import correlate
from runner.execution.aggregator import Aggregator
from runner.results.live import GpuView, SweepView
from runner.results.store import RunStore
from runner.spec.request import Request
from runner.spec.sweep import parse_sweep
from runner.tasks.task import Sample

NUM_PROMPTS = 24
CLOCKS_MHZ = (None, 990)
TASK = {"name": "synthetic", "label": "texts", "num_prompt_tokens": 1, "num_output_tokens": 1, "num_requests": 1}


def make_prompts() -> list[tuple[Request, Sample]]:
    """Prompts and answers of many lengths; every token is a word, and one in ten has a digit in it at random."""
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
    """Run the prompts one by one at two clocks, and correlate what the run directory holds."""
    prompts = make_prompts()
    with open_bench(directory) as bench:
        uuid = bench.gpu.info.uuid
        aggregator = Aggregator(directory / "run", SweepView(name="s", simulated=True, run_directory="", num_trials=2))
        aggregator.load_tasks(parse_sweep({"name": "s", "model": [{"id": "m"}], "task": [TASK]}))
        aggregator.add_board(GpuView(gpu_uuid=uuid, label="0", name="H200", simulated=True))
        aggregator.add_samples("texts", [sample for _, sample in prompts])
        for k, clock in enumerate(CLOCKS_MHZ):
            identity = {"trial_id": f"t{k}", "task": "texts", "concurrency": 1, "sm_clock_mhz_requested": clock}
            aggregator.finish_trial(bench.measure([request for request, _ in prompts], identity, **procedure))
    store = RunStore(directory / "run")
    trials = store.read_trials()
    assert trials["verdicts"].list.len().to_list() == [0, 0]
    requests = pl.concat([store.read_requests(trial_id) for trial_id in trials["trial_id"]])
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
    # The board knows nothing of digits.
    assert energy["digit_fraction"]["partial_q_value"] > 0.05
    assert set(found.filter(target="score")["reason"]) == {"random prompts have no right answer"}


def test_prompts_that_were_not_repeated_have_a_latency_and_no_energy(tmp_path: Path) -> None:
    found = measure_run(tmp_path, min_window_s=0.0).filter(scope="task", feature="num_output_tokens")
    by_target = {row["target"]: row for row in found.iter_rows(named=True)}
    assert by_target["energy_j"]["pearson"] is None
    assert "attributed by a rule" in by_target["energy_j"]["reason"]
    assert by_target["latency_s"]["pearson"] > 0.5
