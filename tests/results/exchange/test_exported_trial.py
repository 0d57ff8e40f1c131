from pathlib import Path
from typing import Any

import pytest

from runner.results.exchange.exported_trial import ExportedTrial, describe_left_out, read_exported_trials
from tests.results.exchange.runs import sweep, write_run


def read(tmp_path: Path, **changes: Any) -> list[ExportedTrial]:
    return read_exported_trials(write_run(tmp_path, **changes))[0]


def test_a_trial_comes_with_its_requests_its_trace_and_its_model(tmp_path: Path) -> None:
    trials, notes = read_exported_trials(write_run(tmp_path))
    assert (len(trials), notes) == (4, [])  # two sentinels, the default clock and 1200 MHz
    trial = trials[0]
    assert len(trial.times.ttft_s) == 5
    assert trial.power.height == 25
    assert (trial.model_id, trial.engine, trial.num_gpus, trial.num_completed) == ("org/llama-3.2-1b", "vllm", 1, 4)
    assert trial.request_rate_per_s is None
    assert trial.weight_format == "bfloat16"
    assert trial.num_parameters == pytest.approx(1.24e9, rel=0.01)


@pytest.mark.parametrize(
    ("name", "simulated", "short"),
    [
        ("NVIDIA H200", False, "H200"),
        ("NVIDIA H100 80GB HBM3", False, "H100"),
        ("NVIDIA A100-SXM4-80GB", False, "A100"),
        ("NVIDIA GeForce RTX 5090", False, "GeForce-RTX-5090"),
        ("Simulated NVIDIA H200", True, "SIMULATED-H200"),
        ("NVIDIA H200 (simulated)", True, "SIMULATED-H200"),
        (None, False, "unknown"),
    ],
)
def test_a_gpu_has_a_short_name(tmp_path: Path, name: str | None, simulated: bool, short: str) -> None:
    trials = read(tmp_path, gpu_name=name, simulated=simulated)
    assert short in {trial.gpu for trial in trials}


def test_what_no_format_holds_is_left_out_with_its_reason(tmp_path: Path) -> None:
    for changes, reason in (
        ({"status": "failed", "error": "x"}, "failed"),
        ({"request_kind": "loglikelihood"}, "log-likelihoods, which generate no token"),
        ({"phase_role": "one_token"}, "paired trials of other lengths"),
        ({"duration_s": None}, "no window and no requests are known, as in an imported table"),
    ):
        trials, notes = read_exported_trials(write_run(tmp_path / reason[:6], **changes))
        assert len(trials) == 1
        assert notes == [f"3 trials are left out: {reason}"]
    assert describe_left_out(1, "failed") == "1 trial is left out: failed"


def test_what_the_sweep_file_leaves_to_the_engine_is_not_known(tmp_path: Path) -> None:
    model = {"id": "org/other"}
    trial = read(tmp_path / "a", document=sweep(model=[model]))[0]
    assert (trial.weight_format, trial.num_parameters) == (None, None)
    fp8 = {"id": "org/other", "engine": {"quantization": "fp8", "dtype": "bfloat16"}}
    assert read(tmp_path / "b", document=sweep(model=[fp8]))[0].weight_format == "fp8"


def test_a_simulated_gpu_counts_the_weights_of_the_modelled_shape(tmp_path: Path) -> None:
    model = {"id": "models/small", "twin": "mistral-7b", "engine": {"dtype": "float32"}}
    trials = read(tmp_path, document=sweep(model=[model]), simulated=True)
    trial = next(trial for trial in trials if trial.row["simulated"])
    assert trial.num_parameters == pytest.approx(7.24e9, rel=0.01)
    assert trial.weight_format is None  # float32 is the small model's, which no joule comes from
