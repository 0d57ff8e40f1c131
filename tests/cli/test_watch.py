"""`sweep watch`: a run's live view, seen from another process."""

import json
import threading
import time
from pathlib import Path

from typer.testing import CliRunner

from runner.cli import app
from runner.results.live import Event, GpuView, SweepView
from runner.results.live_file import publish_views, read_view
from runner.results.store import RunStore


def make_view(num_done: int) -> SweepView:
    gpu = GpuView(gpu_uuid="GPU-0", label="0", name="Simulated NVIDIA H200", simulated=True, power_history_w=(1.0, 2.0))
    event = Event(time_ns=1, level="info", kind="trial_finished", message=f"trial {num_done} is done")
    return SweepView(
        name="watched", simulated=True, run_directory="r", num_trials=9, num_done=num_done, gpus=(gpu,), events=(event,)
    )


def write_manifest(store: RunStore) -> None:
    store.write_manifest({"sweep": {}, "options": {}})


def test_a_view_comes_back_as_it_was_and_is_published_once_a_second(tmp_path: Path) -> None:
    shown: list[SweepView] = []
    show = publish_views(tmp_path, shown.append)
    assert read_view(tmp_path) is None
    for k in range(3):
        show(make_view(k))
    assert [view.num_done for view in shown] == [0, 1, 2]
    assert read_view(tmp_path) == make_view(0)


def test_a_view_of_another_release_is_no_view(tmp_path: Path) -> None:
    (tmp_path / "live.json").write_text(json.dumps({"what": "else"}))
    assert read_view(tmp_path) is None


def test_watching_ends_with_the_run(tmp_path: Path) -> None:
    ready = threading.Event()

    def run() -> None:
        with RunStore(tmp_path) as store:
            write_manifest(store)
            publish_views(tmp_path, lambda _: None)(make_view(4))
            ready.set()
            time.sleep(1.2)

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(5)
    result = CliRunner().invoke(app, ["watch", str(tmp_path), "--plain"])
    thread.join()
    assert result.exit_code == 0, result.output
    assert "trial 4 is done" in result.output
    assert "the run has ended" in result.output
    assert not RunStore(tmp_path).is_in_use()


def test_where_no_run_goes_on_it_says_so(tmp_path: Path) -> None:
    write_manifest(RunStore(tmp_path))
    result = CliRunner().invoke(app, ["watch", str(tmp_path)])
    assert result.exit_code == 0
    assert "no run goes on" in result.output
    result = CliRunner().invoke(app, ["watch", str(tmp_path / "elsewhere")])
    assert result.exit_code == 2
