"""The Pareto front, and quality against energy."""

import json
import re

import vl_convert

from runner.analysis.study import study_trials
from runner.display.plots import front_plots
from runner.display.plots.clock_plots import plot_energy, plot_times
from runner.display.plots.front_plots import plot_fronts
from runner.display.plots.plot import MAX_PLOTS
from tests.analysis.trial_rows import block, frame, trial
from tests.display.studies import CHANGES


def test_no_label_below_an_axis_is_cut_off_by_the_edge_of_a_picture():
    latencies = zip(range(4), (0.285, 0.335, 0.41, 0.58), strict=True)  # the last tick, 0.60, is near the edge
    rows = [trial(None, 1.0 + i, s, model=f"m{i}", block_id=f"b{i}") for i, s in latencies]
    [plot] = plot_fronts(study_trials(frame(*rows)).front)
    svg = vl_convert.vegalite_to_svg(json.dumps(plot.for_file()))
    width, origin = (float(re.search(p, svg)[1]) for p in (r'<svg [^>]*?width="([\d.]+)"', r"translate\(([\d.]+),"))
    labels = re.findall(r'<text text-anchor="middle" transform="translate\(([\d.]+),15\)[^>]*>([\d.]+)<', svg)
    assert len(labels) > 3
    half_letter_width = 3.0  # half of a digit's, at a font size of 10
    assert all(origin + float(x) + half_letter_width * len(label) <= width for x, label in labels)


def test_points_of_a_front_are_labelled_with_what_varies():
    def labels(*rows):
        [plot] = plot_fronts(study_trials(frame(*rows)).front)
        return {row["label"] for row in plot.data["labelled"]}, "label:" in plot.note

    one, many = trial(None, 1.0, 1.0, concurrency=1), trial(None, 0.2, 2.0, concurrency=32, block_id="m")
    assert labels(one, many) == ({"1", "32"}, True)
    assert labels(one, one | {"model": "large", "block_id": "l"}) == (set(), False)
    assert labels(one, trial(990, 0.8, 1.5, concurrency=1)) == ({"default", "990 MHz"}, False)


def test_ends_of_a_front_are_labelled_with_what_varies(plots):
    [plot] = [plot for plot in plots if plot.name == "pareto-qa-generate"]
    labels = [row["label"] for row in plot.data["labelled"]]
    assert labels
    assert all(label.endswith((" · 1", " · 16")) for label in labels)
    assert "label: clock · requests in flight" in plot.note
    [plot] = plot_fronts(study_trials(frame(*block(CHANGES))).front)
    assert [row["label"] for row in plot.data["labelled"]] == ["default", "990 MHz", "1500 MHz"]


def test_a_large_run_is_drawn_in_part(monkeypatch):
    rows = [
        trial(clock, 1.0 + clock / 1000, 2.0 + clock / 1000, concurrency=c, block_id=f"b{c}")
        for c in range(1, MAX_PLOTS + 5)
        for clock in range(300, 600, 100)
    ]
    study = study_trials(frame(*rows))
    assert len(plot_energy(study.points)) == len(plot_times(study.points)) == MAX_PLOTS
    monkeypatch.setattr(front_plots, "MAX_POINTS", 10)
    [plot] = plot_fronts(study.front)
    assert len(plot.data["behind"]) <= 10
    assert len(plot.data["front"]) == study.front["is_on_front"].sum()
    assert "points behind it are not drawn" in plot.note


def test_a_front_of_one_point_is_not_drawn():
    assert plot_fronts(study_trials(frame(trial(None, 1.0))).front) == []
