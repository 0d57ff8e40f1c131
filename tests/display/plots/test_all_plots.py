"""What every plot of a run has in common."""

import json
import re

import vl_convert

from runner.analysis.study import study_trials
from runner.display.plots.all_plots import make_plots
from runner.display.plots.clock_plots import plot_energy, plot_times
from runner.display.plots.front_plots import plot_fronts, plot_quality
from runner.display.plots.heat_maps import plot_heat_maps
from runner.display.plots.plot import ON_LIGHT
from runner.display.plots.power_plots import plot_power
from tests.analysis.trial_rows import frame, trial
from tests.display.studies import make_study


def test_there_is_a_plot_of_each_kind(plots):
    kinds = {plot.name.split("-")[0] for plot in plots}
    assert kinds == {"energy", "latency", "pareto", "quality", "power", "features"}
    assert len({plot.name for plot in plots}) == len(plots)


def test_every_plot_is_valid_and_draws(plots):
    for plot in plots:
        plot.chart.to_dict()  # raises where it is not Vega-Lite
        svg = vl_convert.vegalite_to_svg(json.dumps(plot.for_file()))
        assert svg.count("<path") > 5, plot.name
        names = set(re.findall(r'"name": "(\w+)"', json.dumps(plot.chart.to_dict())))
        assert names <= set(plot.data), plot.name


def test_a_simulated_gpu_is_named_in_every_plot(plots, store):
    for plot in plots:
        assert "SIMULATED GPU" in json.dumps(plot.for_page()["title"]), plot.name
        assert "SIMULATED GPU" in json.dumps(plot.for_file()["title"]), plot.name
    real = [plot for plots in make_plots(make_study(simulated=False), store).values() for plot in plots]
    assert len(real) == len(plots)
    assert not any("SIMULATED" in json.dumps([plot.for_page(), plot.for_file()]) for plot in real)


def test_what_is_not_known_is_not_drawn(store):
    study = study_trials(frame(trial(None, None, None)))
    assert plot_energy(study.points) == plot_times(study.points) == plot_fronts(study.front) == []
    assert plot_quality(study.front) == []
    assert plot_heat_maps(study.correlations, simulated=False) == []
    assert plot_power(study_trials(frame(trial(None, 1.0) | {"start_ns": None})), store) == []


def test_only_the_page_chooses_colours_by_its_ground(plots):
    assert not any("config" in plot.for_page() for plot in plots)
    assert all(plot.for_file()["config"]["range"]["category"] == ON_LIGHT for plot in plots)
