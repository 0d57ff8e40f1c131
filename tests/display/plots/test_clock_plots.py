"""Energy and time against the clock."""

import pytest

from runner.analysis.study import study_trials
from runner.display.plots.clock_plots import plot_energy, plot_times
from tests.analysis.trial_rows import block, frame, trial
from tests.display.studies import CHANGES


def test_energy_has_its_points_bounds_and_minimum(plots):
    [plot] = [plot for plot in plots if plot.name == "energy-qa-16"]
    held, least = plot.data["held"], plot.data["least"]
    assert [(row["clock"], row["value"]) for row in held if row["model"] == "small"] == [
        (1500.0, pytest.approx(0.85)), (990.0, pytest.approx(0.80)), (345.0, pytest.approx(1.20))
    ]  # fmt: skip
    assert all(row["low"] < row["value"] < row["high"] for row in held)
    assert {(row["model"], row["label"]) for row in least} == {("small", "990 MHz"), ("large", "990 MHz")}
    assert len(plot.data["default"]) == 2
    assert "95 %" in plot.note


def test_what_ran_at_a_single_clock_has_no_plot_against_it():
    alone = [trial(None, joules, model=model, block_id=model) for model, joules in (("small", 1.0), ("large", 1.2))]
    points = study_trials(frame(*alone)).points
    assert plot_energy(points) == plot_times(points) == []
    [plot] = plot_energy(study_trials(frame(*alone, *block(CHANGES, task="varied", block_id="v"))).points)
    assert plot.name == "energy-varied-4-small"


def test_models_far_apart_get_a_plot_each():
    near = frame(*block(CHANGES), *block(CHANGES, model="large", block_id="l"))
    assert [plot.name for plot in plot_energy(study_trials(near).points)] == ["energy-qa-4"]
    dear = [row | {"joules_per_output_token": 9 * row["joules_per_output_token"]} for row in block(CHANGES)]
    far = frame(*block(CHANGES), *(row | {"model": "large", "block_id": "l"} for row in dear))
    names = [plot.name for plot in plot_energy(study_trials(far).points)]
    assert names == ["energy-qa-4-large", "energy-qa-4-small"]
    assert [plot.name for plot in plot_times(study_trials(far).points)] == ["latency-qa-4"]


def test_throughput_stands_in_for_latency():
    rows = [trial(clock, 1.0, None, output_tokens_per_s=rate) for clock, rate in ((None, 100.0), (990, 80.0))]
    [plot] = plot_times(study_trials(frame(*rows)).points)
    assert plot.name == "throughput-qa-4"
    assert [row["value"] for row in plot.data["held"]] == [80.0]


def test_a_curve_is_a_memory_clock_where_it_varies():
    rows = [
        trial(clock, 1.0, mem_clock_mhz_requested=memory, mem_clock_mhz=float(memory or 14001))
        for clock, memory in ((None, None), (990, 14001), (990, 7001))
    ]
    [plot] = plot_energy(study_trials(frame(*rows)).points)
    assert [row["series"] for row in plot.data["held"]] == ["memory 14001 MHz", "memory 7001 MHz"]
    assert [row["series"] for row in plot.data["default"]] == ["memory 14001 MHz"]
    assert {row["label"] for row in plot.data["held"]} == {"990/14001 MHz", "990/7001 MHz"}


def test_a_default_clock_with_verdicts_alone_bears_their_mark():
    rows = [trial(None, 1.0, verdicts=["trace_gap"]), trial(990, 0.8), trial(750, 0.9)]
    [plot] = plot_energy(study_trials(frame(*rows)).points)
    assert [row["clock"] for row in plot.data["unsound"]] == [row["clock"] for row in plot.data["default"]]
