"""`sweep run` with real vLLM: our small model makes the words, the simulated GPU the seconds and joules."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import psutil
import pytest

from runner.physics.gpu_state import GpuState
from tests.engines import ON_PACED_ENGINE
from tests.execution.sweep_process import SweepProcess, at_work_s, read_rows, wait_until

pytestmark = ON_PACED_ENGINE

MODEL = Path(__file__).parents[2] / "models" / "joulesweep-small"
SWEEP = f"""
name = "real"
min_window_s = 2.0
[[model]]
id = "{MODEL}"
twin = "qwen2.5-32b"
engine = {{ max_model_len = 512, max_num_batched_tokens = 1024, dtype = "float32" }}
[[task]]
name = "tiny_qa"
limit = 100
[[task]]
name = "tiny_commonsense"
limit = 40
[axes]
concurrency = [8]
sm_clock = ["default", 795]
"""


def test_killed_over_real_engines_it_ends_them_goes_on_and_says_what_a_token_costs(
    start_sweep: Callable[..., SweepProcess], tmp_path: Path
) -> None:
    file = tmp_path / "real.toml"
    file.write_text(SWEEP)
    directory = tmp_path / "run"

    run = start_sweep(file, engine="vllm")
    assert wait_until(lambda: any((directory / "trials").glob("[!.]*.parquet")), 600), run.output
    assert any("EngineCore" in name or "vllm" in name.lower() for name in run.living()), run.living()
    run.kill()
    assert wait_until(lambda: not run.living(), 50), run.living()  # before Ray's helpers would end by themselves
    settings = GpuState(tmp_path / "gpus" / "GPU-SIM-H200-0").settings_history()[-1]
    assert (settings.sm_clock_mhz, settings.mem_clock_mhz, settings.power_limit_w) == (None, None, None)
    before = read_rows(directory)

    run = start_sweep(file, engine="vllm")
    assert run.wait(1000) == 0, run.output
    assert not psutil.pid_exists(run.process.pid) or not run.living()
    rows = read_rows(directory)
    assert all(rows[trial_id] == row for trial_id, row in before.items())

    activity = GpuState(tmp_path / "gpus" / "GPU-SIM-H200-0").read_new_activity()
    trials = pl.DataFrame(list(rows.values()), infer_schema_length=None).filter(attempt=1)
    assert trials.height == 2 * 4
    assert set(trials["status"]) == {"ok"}
    assert trials["simulated"].all()
    for row in trials.to_dicts():
        assert row["counter_interval_trace_j"] == pytest.approx(row["counter_interval_j"], rel=0.01), row
        assert row["num_failed_requests"] == 0
        assert row["quality"] > row["quality_chance"]
    for task in ("tiny_qa", "tiny_commonsense"):
        of_task = trials.filter(pl.col("task") == task)
        default = of_task.filter(pl.col("sm_clock_mhz_requested").is_null())
        slow = of_task.filter(pl.col("sm_clock_mhz_requested") == 795)
        work = of_task.select("num_prompt_tokens", "num_output_tokens", "num_requests")
        # The GPU's own time: an engine that does not keep its pace on a busy machine takes longer.
        seconds = [
            [at_work_s(activity, row) / row["num_requests"] for row in frame.to_dicts()] for frame in (default, slow)
        ]
        assert min(seconds[1]) >= 0.99 * max(seconds[0])
        # The least of its trials: a pace that is lost adds a pause, and its joules, and takes nothing away.
        joules = [frame["joules_per_request"].min() for frame in (default, slow)]
        assert joules[1] < joules[0]  # type: ignore[operator]
        assert (work["num_prompt_tokens"] / work["num_requests"]).n_unique() == 1
        assert slow["quality"].to_list() == [default["quality"][0]] * slow.height
        assert set(slow["sm_clock_mhz"]) == {795.0}
