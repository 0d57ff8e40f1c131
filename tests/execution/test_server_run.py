"""`sweep run --server` against a fake server: it dies in a trial and comes back, and the sweep goes on."""

import threading
from collections.abc import Callable
from pathlib import Path

from tests.execution.sweep_process import SweepProcess, read_manifest, read_rows
from tests.inference.server.fake_server import SMALL_MODEL, Behaviour, ServerProcess

SWEEP = f"""
name = "attached"
min_window_s = 2.0
[[model]]
id = "{SMALL_MODEL}"
[[task]]
name = "synthetic"
num_prompt_tokens = 16
num_output_tokens = 8
num_requests = 8
[axes]
concurrency = [2]
sm_clock = ["default", 1410, 795]
[limits]
load_s = 300
"""
CACHE_IS_OFF = 'vllm:cache_config_info{enable_prefix_caching="False"} 1.0\n'


def test_a_server_that_dies_and_comes_back_costs_one_trial(
    start_sweep: Callable[..., SweepProcess], tmp_path: Path
) -> None:
    file, directory = tmp_path / "s.toml", tmp_path / "run"
    file.write_text(SWEEP)
    behaviour = Behaviour(token_s=0.005, answers={"/version": {"version": "0.32.0"}, "/metrics": CACHE_IS_OFF})
    server = ServerProcess(behaviour)
    again: list[ServerProcess] = []
    try:
        run = start_sweep(file, "--server", server.url, engine="vllm")
        run.wait_for("1 of 5 trials")
        server.kill()
        restart = threading.Timer(3.0, lambda: again.append(ServerProcess(behaviour, server.port)))
        restart.start()
        assert run.wait() == 1, run.output
        restart.join()

        rows = sorted(read_rows(directory).values(), key=lambda row: row["start_ns"] or 0)
        failed = [row for row in rows if row["status"] == "failed"]
        assert len(rows) == 5, run.output
        assert len(failed) == 1, run.output
        assert "has ended or has been restarted" in failed[0]["error"]
        for row in rows:
            if row["status"] == "ok":
                assert row["verdicts"] == ["server_elsewhere"]  # a simulated GPU does none of its work
                assert (row["num_failed_requests"], row["num_cached_tokens"]) == (0, None)
                assert row["num_output_tokens"] == 8 * row["num_requests"]
                assert row["ttft_s_p50"] > 0
                assert row["concurrency_mean"] > 1.5
        assert again[0].process.poll() is None  # the run has ended, and the server goes on

        run = start_sweep(file, "--server", server.url, engine="vllm")
        assert run.wait() == 0, run.output
        assert all(row["status"] == "ok" for row in read_rows(directory).values())
        options = read_manifest(directory)["options"]
        assert (options["engine"], options["server"]["software"]) == ("server", "vllm 0.32.0")
        assert options["server"]["url"] == server.url
    finally:
        for started in (server, *again):
            started.kill()
