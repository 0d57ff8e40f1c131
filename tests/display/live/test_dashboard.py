import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from runner.display.live.dashboard import Dashboard, render_dashboard
from tests.display import views

VIEWS = {
    "one_simulated_gpu": views.ONE_SIMULATED_GPU,
    "two_gpus": views.TWO_GPUS,
    "eight_gpus": views.EIGHT_GPUS,
    "starting": views.STARTING,
    "finished": views.FINISHED,
}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
@pytest.mark.parametrize("name", VIEWS)
def test_frames_look_as_they_did(name, width, height, render, check_golden):
    text = render(render_dashboard(VIEWS[name], width, height), width, height)
    assert len(text.splitlines()) <= height
    check_golden(f"{name}_{width}x{height}", text, width)


@pytest.mark.parametrize("height", [2, 5, 9, 16, 24, 60])
@pytest.mark.parametrize("width", [10, 20, 33, 58, 66, 79, 115, 116, 117, 240])
@pytest.mark.parametrize("name", VIEWS)
def test_nothing_overflows_any_screen(name, width, height, render):
    lines = render(render_dashboard(VIEWS[name], width, height), width, height).splitlines()
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [58, 66, 80, 116, 120])
def test_a_number_is_shown_whole_or_not_at_all(width, render):
    view = replace(views.EIGHT_GPUS, gpus=tuple(replace(gpu, model="tiny") for gpu in views.EIGHT_GPUS.gpus))
    text = render(render_dashboard(view, width, 40), width, 40)
    assert not re.search(r"\d…", text)


def test_long_and_hostile_texts_stay_on_their_line(render):
    gpu = replace(
        views.measuring_gpu(),
        model="組織/" + "模型" * 40,
        task="[red]a\ntask[/red]",
        name="GPU\tname " * 20,
        label="n:0",
    )
    event = views.event(1, "first\nsecond [bold]third[/bold] " + "x" * 300)
    view = replace(views.ONE_SIMULATED_GPU, name="s" * 100, gpus=(gpu,) * 3, events=(event,))
    for width, height in ((40, 12), (80, 24), (120, 40)):
        lines = render(render_dashboard(view, width, height), width, height).splitlines()
        assert len(lines) <= height
        assert all(cell_len(line) <= width for line in lines)
    assert any("first second [bold]third" in line for line in lines)
    assert any("[red]a task[/red] · 16 in flight" in line for line in lines)


def test_more_gpus_than_lines_are_counted(render):
    view = replace(views.EIGHT_GPUS, gpus=views.EIGHT_GPUS.gpus * 8)
    assert re.search(r"and \d+ more GPUs", render(render_dashboard(view, 80, 24), 80, 24))


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_simulated_run_says_so_at_every_width(width, render):
    assert "SIMULATED GPU" in render(render_dashboard(views.ONE_SIMULATED_GPU, width, 24), width, 24)
    assert "SIMULATED" not in render(render_dashboard(views.TWO_GPUS, width, 24), width, 24)


def test_a_clock_that_slipped_is_marked_without_colour(render):
    text = render(render_dashboard(views.TWO_GPUS, 80, 24), 80, 24)
    assert "1980 → 1845 !" in text
    assert "697 of 700 !" in text


def test_the_last_frame_stays_after_the_alternate_screen():
    stream = io.StringIO()
    console = Console(file=stream, width=80, height=24, force_terminal=True, _environ={"NO_COLOR": "1"})
    with Dashboard(console) as dashboard:
        dashboard.update(views.ONE_SIMULATED_GPU)
        dashboard.update(views.FINISHED)
    output = stream.getvalue()
    assert "\x1b[?1049h" in output
    after = output.split("\x1b[?1049l", 1)[1]
    assert "120 of 120 trials" in after
    assert "\x1b[3" not in after  # NO_COLOR: no foreground colours
