"""The live view on disk."""

import json
import time
from pathlib import Path

import pytest

from runner.results.live import Event, GpuView, SweepView
from runner.results.live_file import LIVE_FILE, PUBLISH_PERIOD_S, publish_views, read_view
from runner.spec.load import ClosedLoop

VIEW = SweepView(
    name="s",
    simulated=True,
    run_directory="runs/s",
    num_trials=3,
    gpus=(GpuView(gpu_uuid="GPU-0", label="n2:0", name="H200", simulated=True, load=ClosedLoop(concurrency=4)),),
    events=(Event(time_ns=1, level="info", kind="sweep_started", message="3 trials"),),
)


def test_a_view_is_shown_and_read_back_whole(tmp_path: Path) -> None:
    shown: list[SweepView] = []
    publish_views(tmp_path, shown.append)(VIEW)
    assert shown == [VIEW]
    assert read_view(tmp_path) == VIEW


def test_every_view_is_shown_and_one_a_second_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    shown: list[int] = []
    show = publish_views(tmp_path, lambda view: shown.append(view.num_trials))
    written = []
    for number in range(5):
        show(SweepView(name="s", simulated=True, run_directory="r", num_trials=number))
        written.append(json.loads((tmp_path / LIVE_FILE).read_bytes())["num_trials"])
        now_s += PUBLISH_PERIOD_S / 2
    assert shown == [0, 1, 2, 3, 4]
    assert written == [0, 0, 2, 2, 4]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"name": "s"}', b'{"name": "s", "colour": "red"}'])
def test_a_view_of_another_release_is_none(tmp_path: Path, content: bytes) -> None:
    assert read_view(tmp_path) is None
    (tmp_path / LIVE_FILE).write_bytes(content)
    assert read_view(tmp_path) is None
