"""One GPU at its three sizes; whole screens are in tests/display/golden."""

from dataclasses import replace

import pytest
from rich.cells import cell_len

from runner.display.live.panels import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    TWO_LINES_WIDTH,
    render_one_line,
    render_panel,
    render_two_lines,
)
from tests.display.views import measuring_gpu

GPU = measuring_gpu()


@pytest.mark.parametrize("chart_height", [2, 6])
@pytest.mark.parametrize("width", [PANEL_WIDTH, 80, 120])
def test_a_panel_is_as_large_as_it_says(width, chart_height, render):
    lines = render(render_panel(GPU, width, chart_height), width, 40).splitlines()
    assert len(lines) == PANEL_HEIGHT + chart_height
    assert {cell_len(line) for line in lines} == {width}


def test_a_panel_names_workload_clocks_power_and_energy(render):
    text = render(render_panel(GPU, 100, 4), 100, 40)
    assert "meta-llama/Llama-3.2-1B · boolq · 16 in flight" in text
    assert "990 → 990" in text
    assert "312 of 700" in text
    assert "0.129" in text
    assert "418 requests · 41 trials done" in text


@pytest.mark.parametrize("width", [TWO_LINES_WIDTH, 100])
def test_two_lines_are_two_lines(width, render):
    lines = render(render_two_lines((GPU, replace(GPU, label="1")), width), width, 40).splitlines()
    assert len(lines) == 4
    assert all(cell_len(line) <= width for line in lines)
    assert "boolq · 16 in" in lines[0]


def test_one_line_leaves_out_the_least_important(render):
    wide, narrow = (render(render_one_line(GPU, width), width, 5).rstrip() for width in (120, 40))
    assert "boolq · 16 in flight" in wide
    assert "312/700 W" in wide
    assert "312/700 W" in narrow
    assert "boolq" not in narrow


def test_a_gpu_without_work_says_so(render):
    idle = replace(GPU, phase="idle", model=None, task=None, load=None)
    assert "no work" in render(render_panel(idle, 80, 2), 80, 40)


def test_a_simulated_gpu_is_marked_once(render):
    simulated = replace(GPU, simulated=True)
    assert "NVIDIA H200 (simulated)" in render(render_panel(simulated, 80, 2), 80, 40)
    named = replace(simulated, name="Simulated NVIDIA H200")
    assert "(simulated)" not in render(render_panel(named, 80, 2), 80, 40)
