"""Our results as `vllm bench serve` writes its own: against a sample, and against the source of the installed vLLM."""

import ast
import importlib.util
import json
from pathlib import Path

import pytest

from runner.results.exchange.exported_trial import read_exported_trials
from runner.results.exchange.vllm_serve import OWN_KEYS, clean_name, make_files, make_result
from tests.results.exchange.runs import write_run
from tests.results.exchange.samples import kinds, sample

LEFT_OUT = {
    "itls", "queue_times", "generated_texts", "max_output_tokens_per_s", "rtfx", "median_itl_ms", "std_itl_ms",
    "p99_itl_ms",
}  # fmt: skip
"""Keys that a run does not know, or that vLLM writes for tasks of other kinds."""
OURS = {*OWN_KEYS, "num_gpus"} | {
    f"{percentile}_{name}_ms" for percentile in ("p90", "p95") for name in ("ttft", "tpot", "e2el")
}


def test_a_result_has_the_keys_the_types_and_the_numbers_of_the_sample(tmp_path: Path) -> None:
    theirs = sample("vllm_serve")
    trial = read_exported_trials(write_run(tmp_path))[0][0]
    ours = json.loads(json.dumps(make_result(trial), allow_nan=False))
    assert set(ours) - OURS == set(theirs) - LEFT_OUT
    for key in set(theirs) - LEFT_OUT - {"label"}:  # label is null unless given
        assert kinds(ours[key]) == kinds(theirs[key]), key
    same = set(theirs) - LEFT_OUT - {"label", "endpoint_type", "backend", "ttfts", "latencies", "start_times"}
    assert {key: ours[key] for key in same} == {key: pytest.approx(theirs[key]) for key in same}
    assert ours["ttfts"] == [1.0, 1.0, 1.0, 1.0, None]  # theirs is 0 for a failed request
    assert (ours["energy_j"], ours["sm_clock_mhz_requested"], ours["simulated"]) == (2000.0, None, False)


def test_repeats_of_an_operating_point_share_a_folder(tmp_path: Path) -> None:
    trials = read_exported_trials(write_run(tmp_path))[0]
    files, notes = make_files(trials)
    summaries = {path: content for path, content in files.items() if path.endswith("/summary.json")}
    assert sorted(len(content) for content in summaries.values()) == [1, 3]
    for path, content in summaries.items():
        assert [run["run_number"] for run in content] == list(range(len(content)))
        for run in content:
            assert files[path.replace("summary", f"run={run['run_number']}")] == run
        assert len({run["sm_clock_mhz_requested"] for run in content}) == 1
    assert any("sm_clock_mhz=1200" in path for path in summaries)
    assert any("itls" in note for note in notes)


def test_an_open_loop_keeps_its_rate(tmp_path: Path) -> None:
    trial = read_exported_trials(write_run(tmp_path))[0][0]
    open_loop = {
        "request_rate_per_s_requested": 4.0,
        "burstiness": 2.0,
        "good_requests_per_s": 0.3,
        "concurrency": None,
    }
    from dataclasses import replace

    result = make_result(replace(trial, row={**trial.row, **open_loop}))
    wanted = {"request_rate": 4.0, "burstiness": 2.0, "request_goodput": 0.3, "max_concurrency": None}
    assert {key: result[key] for key in wanted} == wanted


def test_names_are_safe_as_paths() -> None:
    assert clean_name("org/model name:x+y") == "org-model-name-x-y"
    assert clean_name("../..") == "unnamed"


def test_the_installed_vllm_writes_the_keys_of_the_sample() -> None:
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vLLM is not installed")
    tree = ast.parse((Path(spec.origin).parent / "benchmarks" / "serve.py").read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    statistics = {key for key in sample("vllm_serve") if key.endswith("_ms")}
    assert set(sample("vllm_serve")) - statistics <= words
    assert {key.split("_")[1] for key in statistics} <= words  # it puts the names of statistics together
