"""`sweep watch`: a run's live view, seen from another process."""

import json
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from runner.cli import app
from runner.results import live_file
from runner.results.live import Event, GpuView, SweepView
from runner.results.live_file import publish_views, read_view
from runner.results.run_directory import RunStore


def make_view(num_done: int) -> SweepView:
    gpu = GpuView(gpu_uuid="GPU-0", label="0", name="Simulated NVIDIA H200", simulated=True, power_history_w=(1.0, 2.0))
    event = Event(time_ns=1, level="info", kind="trial_finished", message=f"trial {num_done} is done")
    return SweepView(
        name="watched", simulated=True, run_directory="r", num_trials=9, num_done=num_done, gpus=(gpu,), events=(event,)
    )


def write_manifest(store: RunStore) -> None:
    store.write_manifest({"sweep": {}, "options": {}})


def test_a_view_comes_back_as_it_was_and_is_published_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(live_file, "time", SimpleNamespace(monotonic=lambda: now_s))
    shown: list[SweepView] = []
    show = publish_views(tmp_path, shown.append)
    assert read_view(tmp_path) is None
    published = []
    for k in range(5):
        show(make_view(k))
        published.append(read_view(tmp_path))
        now_s += 0.4
    assert [view.num_done for view in shown] == [0, 1, 2, 3, 4]
    assert published == [make_view(k) for k in (0, 0, 0, 3, 3)]


def test_a_view_of_another_release_is_no_view(tmp_path: Path) -> None:
    (tmp_path / "live.json").write_text(json.dumps({"what": "else"}))
    assert read_view(tmp_path) is None


def test_watching_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as running:
        write_manifest(running.enter_context(RunStore(tmp_path)))
        publish_views(tmp_path, lambda _: None)(make_view(4))
        # The run ends while the watcher sleeps between its first look and its second.
        monkeypatch.setattr(time, "sleep", lambda _: running.close())
        result = CliRunner().invoke(app, ["watch", str(tmp_path), "--plain"])
    assert result.exit_code == 0, result.output
    assert "trial 4 is done" in result.output
    assert "the run has ended" in result.output
    assert not RunStore(tmp_path).is_in_use()


def test_where_no_run_goes_on_it_says_so(tmp_path: Path) -> None:
    write_manifest(RunStore(tmp_path))
    result = CliRunner().invoke(app, ["watch", str(tmp_path)])
    assert result.exit_code == 0
    assert "nothing is running in" in result.output
    result = CliRunner().invoke(app, ["watch", str(tmp_path / "elsewhere")])
    assert result.exit_code == 2
