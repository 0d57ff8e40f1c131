import json
from pathlib import Path
from typing import Any

import pytest

from runner.results.exchange.export import export_run
from runner.results.exchange.vllm_results import (
    NO_ENERGY,
    NO_SCORE,
    VllmFileError,
    is_vllm_results,
    list_files,
    read_vllm_results,
)
from runner.results.tables import TRIALS
from runner.spec.load import ClosedLoop, OpenLoop, read_load
from tests.results.exchange.runs import write_run
from tests.results.exchange.samples import sample


def result(**changes: Any) -> dict[str, Any]:
    return sample("vllm_serve") | changes


def write(path: Path, *values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(value) for value in values))
    return path


def test_a_result_becomes_a_row_without_energy(tmp_path: Path) -> None:
    trials = read_vllm_results(write(tmp_path / "one.json", result()))
    assert dict(trials.schema) == TRIALS
    row = trials.row(0, named=True)
    known = {
        "model": "org/llama-3.2-1b", "task": "vllm bench serve", "request_kind": "generate", "concurrency": 2,
        "gpu_name": "unknown GPU", "simulated": False, "status": "ok", "verdicts": [], "duration_s": 10.0,
        "num_requests": 5, "num_failed_requests": 1, "num_prompt_tokens": 400, "num_output_tokens": 44,
        "output_tokens_per_s": 4.4, "requests_per_s": 0.4, "ttft_s_p50": 1.0, "tpot_s_p50": 0.4, "latency_s_p50": 5.0,
        "sm_clock_mhz_requested": None, "phase_reason": NO_ENERGY, "quality_reason": NO_SCORE,
    }  # fmt: skip
    assert {name: row[name] for name in known} == known
    for name in ("energy_j", "joules_per_output_token", "mean_power_w", "energy_source", "ttft_s_p95", "quality"):
        assert row[name] is None, name


def test_percentiles_beyond_the_median_are_read_where_they_were_asked_for(tmp_path: Path) -> None:
    trials = read_vllm_results(write(tmp_path / "one.json", result(p95_ttft_ms=80.0, p95_e2el_ms=7000.0)))
    assert trials.select("ttft_s_p95", "tpot_s_p95", "latency_s_p95").row(0) == (0.08, None, 7.0)


def test_metadata_names_clocks_and_power(tmp_path: Path) -> None:
    """--metadata holds text."""
    measured = [
        result(gpu_name="NVIDIA H200", sm_clock_mhz="1980", mean_power_w="300"),
        result(gpu_name="NVIDIA H200", sm_clock_mhz="1200", mean_power_w="200"),
    ]
    trials = read_vllm_results(write(tmp_path / "two.json", *measured))
    assert trials["sm_clock_mhz_requested"].to_list() == [None, 1200]  # the highest stands for the default
    assert trials["joules_per_output_token"].to_list() == pytest.approx([300 / 4.4, 200 / 4.4])
    assert set(trials["energy_source"]) == {"imported"}
    assert set(trials["gpu_name"]) == {"NVIDIA H200"}
    assert trials["block_id"].n_unique() == 1


def test_an_energy_is_shared_among_the_output_tokens(tmp_path: Path) -> None:
    trials = read_vllm_results(write(tmp_path / "one.json", result(energy_j=88.0)))
    assert trials["joules_per_output_token"].to_list() == [2.0]


def test_what_was_set_tells_runs_apart_and_repeats_stay_together(tmp_path: Path) -> None:
    runs = [
        result(run_number=number, random_input_len=length, some_new_metric_ms=number)
        for length in (128, 1024)
        for number in (0, 1)
    ]
    trials = read_vllm_results(write(tmp_path / "summary.json", runs))
    assert trials["task"].to_list() == [
        *["vllm bench serve, random_input_len=128"] * 2, *["vllm bench serve, random_input_len=1024"] * 2,
    ]  # fmt: skip
    assert trials["block_id"].n_unique() == 2
    assert trials["repeat"].to_list() == [0, 1, 0, 1]


def test_a_rate_of_requests_is_an_open_loop_unless_their_number_is_limited_too(tmp_path: Path) -> None:
    rates = result(request_rate=4.0, burstiness=2.0, label="chat")
    row = read_vllm_results(write(tmp_path / "open.json", rates | {"max_concurrency": None})).row(0, named=True)
    assert (row["task"], read_load(row)) == ("chat", OpenLoop(request_rate_per_s=4.0, burstiness=2.0))
    both = read_vllm_results(write(tmp_path / "both.json", rates)).row(0, named=True)
    assert (both["task"], read_load(both)) == ("chat, 4.0 requests/s", ClosedLoop(concurrency=2))


def test_a_folder_of_a_sweep_is_read_by_its_summaries(tmp_path: Path) -> None:
    for name in ("SERVE--a", "SERVE--b"):
        write(tmp_path / name / "run=0.json", result())
        write(tmp_path / name / "summary.json", [result(run_number=0, max_num_seqs=len(name))])
    assert [path.name for path in list_files(tmp_path)] == ["summary.json"] * 2
    assert read_vllm_results(tmp_path).height == 2


def test_a_folder_of_single_results_is_read_without_what_is_no_result(tmp_path: Path) -> None:
    write(tmp_path / "a.json", result())
    write(tmp_path / "a.pytorch.json", [{"benchmark": {}}])
    write(tmp_path / "warmup.json", result())
    assert [path.name for path in list_files(tmp_path)] == ["a.json"]


def test_a_benchmark_in_which_all_failed_is_a_failed_trial(tmp_path: Path) -> None:
    failed = result(completed=0, failed=5, total_output_tokens=0, output_throughput=0.0, total_input_tokens=0)
    row = read_vllm_results(write(tmp_path / "one.json", failed)).row(0, named=True)
    assert (row["status"], row["error"]) == ("failed", "no request completed")


def test_our_own_export_comes_back(tmp_path: Path) -> None:
    store = write_run(tmp_path / "run", verdicts=["trace_gap"], simulated=True, gpu_name="Simulated NVIDIA H200")
    export = export_run(store, "vllm-bench")
    before, after = store.read_trials(), read_vllm_results(export.folder)
    names = (
        "task", "model", "gpu_name", "simulated", "concurrency", "sm_clock_mhz_requested", "sm_clock_mhz", "verdicts",
        "energy_j", "joules_per_output_token", "mean_power_w", "duration_s", "num_output_tokens", "ttft_s_p50",
        "latency_s_p50", "num_failed_requests",
    )  # fmt: skip
    order = ["sm_clock_mhz_requested", "sm_clock_mhz"]
    for name in names:
        ours, theirs = before.sort(order)[name].to_list(), after.sort(order)[name].to_list()
        assert theirs == (pytest.approx(ours) if isinstance(ours[0], float) else ours), name


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["is not JSON"]),
        ('{"a": 1}', ["result 1: model_id, duration, completed, total_output_tokens, output_throughput is missing"]),
        ("[1]", ["result 1 is no object"]),
        ("[]", ["holds no result of vllm bench serve"]),
        (
            json.dumps(result(output_throughput="fast")),
            ["result 1: output_throughput = 'fast' is not allowed", "from 0 on"],
        ),
        (json.dumps(result(duration=-1)), ["duration = -1 is not allowed"]),
        (json.dumps(result(duration=True)), ["duration = True is not allowed"]),
        (json.dumps(result(sm_clock_mhz="1200 MHz")), ["sm_clock_mhz = '1200 MHz' is not allowed"]),
        (json.dumps(result(request_rate="fast")), ["request_rate = 'fast' is not allowed"]),
        (json.dumps(result()) + "\n{", ["is not JSON"]),
        (json.dumps(result()).replace("4.4", "NaN", 1), ["is not allowed: give a number from 0 on"]),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, content: str, words: list[str]) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(VllmFileError) as error:
        read_vllm_results(path)
    assert "bad.json" in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


def test_an_embedding_benchmark_and_an_empty_folder_are_explained(tmp_path: Path) -> None:
    pooling = {key: value for key, value in result().items() if key not in ("output_throughput", "total_output_tokens")}
    with pytest.raises(VllmFileError, match="for a model that generates"):
        read_vllm_results(write(tmp_path / "a" / "pooling.json", pooling))
    (tmp_path / "empty").mkdir()
    with pytest.raises(VllmFileError, match="empty holds no result of vllm bench serve"):
        read_vllm_results(tmp_path / "empty")


def test_json_and_folders_are_told_from_grids(tmp_path: Path) -> None:
    assert is_vllm_results(tmp_path)
    assert is_vllm_results(write(tmp_path / "one.txt", result()))
    (tmp_path / "grid.csv").write_text("sm_clock_mhz,output_tokens_per_s\n")
    assert not is_vllm_results(tmp_path / "grid.csv")
    assert not is_vllm_results(tmp_path / "nowhere.json")
