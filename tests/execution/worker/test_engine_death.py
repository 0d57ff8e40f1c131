"""An engine dies in a window, as vLLM's core may: its trial, the next trial, and the GPU afterwards."""

from pathlib import Path
from typing import Any

import pytest

from runner.inference.engine import EngineError, EngineRun
from runner.inference.simulated.engine import SimulatedEngine
from tests.execution.worker.nvml_failures import ADMINISTRATORS_LIMIT_W, run_once


def test_its_trial_is_a_row_with_the_reason_and_the_next_one_has_another_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SimulatedEngine.run
    windows: list[SimulatedEngine] = []

    def run_until_it_dies(
        engine: SimulatedEngine, *arguments: Any, on_progress: Any = None, **options: Any
    ) -> EngineRun:
        def die(*_: int) -> None:
            engine.close()
            raise EngineError("the vLLM engine died; open it anew")

        if on_progress is not None:  # a window, and no warm-up
            windows.append(engine)
            on_progress = die if len(windows) == 2 else on_progress
        return run(engine, *arguments, on_progress=on_progress, **options)

    monkeypatch.setattr(SimulatedEngine, "run", run_until_it_dies)
    outcome = run_once(tmp_path / "run", trials=slice(3))

    first, died, last = outcome.rows
    assert [row["status"] for row in outcome.rows] == ["ok", "failed", "ok"]
    assert "the vLLM engine died" in died["error"]
    assert (died["sm_clock_mhz_requested"], died["power_limit_w_requested"]) == (990, 500.0)
    assert died["energy_j"] is None
    assert windows[0] is windows[1]
    assert windows[2] is not windows[1]
    for row in (first, last):
        assert row["verdicts"] == []
        assert row["energy_j"] == pytest.approx(outcome.truths_j[row["trial_id"]], rel=0.01)
    assert last["sm_clock_mhz_requested"] is None
    assert outcome.settings_after == (None, None, ADMINISTRATORS_LIMIT_W)
    assert not outcome.journal_stays
