import json
import re

import polars as pl
import pytest
import vl_convert

from runner.analysis.study import study_trials
from runner.display.plots import front_plots
from runner.display.plots.clock_plots import plot_energy, plot_times
from runner.display.plots.front_plots import plot_fronts, plot_heat_maps, plot_quality
from runner.display.plots.plot import MAX_PLOTS, ON_LIGHT, axis_for, domain_of, shortest_point
from runner.display.plots.power_plots import plot_power
from runner.display.plots.run_plots import make_plots, write_pictures
from runner.results.run_directory import RunStore
from runner.results.tables import POWER, REQUESTS
from tests.analysis.trial_rows import block, frame, trial
from tests.display.studies import CHANGES, make_study, make_trials


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A run directory with a power trace and the requests of every trial."""
    store = RunStore(tmp_path_factory.mktemp("run"))
    for row in make_trials().to_dicts():
        start_ns = row["start_ns"]
        power = [{"time_ns": start_ns + 20_000_000 * i, "power_w": 300.0 + i % 7} for i in range(-50, 550)]
        requests = [{"scheduled_ns": start_ns, "first_token_ns": start_ns + 10**9, "last_token_ns": start_ns + 10**10}]
        store.write_trial(row, pl.DataFrame(requests, schema=REQUESTS), pl.DataFrame(power, schema=POWER))
    return store


@pytest.fixture(scope="module")
def plots(store):
    return [plot for plots in make_plots(make_study(), store).values() for plot in plots]


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


def test_points_are_named_shortly():
    point = dict.fromkeys(("sm_clock_mhz_requested", "mem_clock_mhz_requested", "power_limit_w_requested"))
    assert shortest_point(point) == "default"
    assert shortest_point(point | {"power_limit_w_requested": 400.0}) == "400 W"
    assert shortest_point(point | {"sm_clock_mhz_requested": 990, "power_limit_w_requested": 400.0}) == "990 MHz, 400 W"


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


def test_ends_of_a_front_are_labelled_with_what_varies(plots):
    [plot] = [plot for plot in plots if plot.name == "pareto-qa-generate"]
    labels = [row["label"] for row in plot.data["labelled"]]
    assert labels
    assert all(label.endswith((" · 1", " · 16")) for label in labels)
    assert "label: clock · requests in flight" in plot.note
    [plot] = plot_fronts(study_trials(frame(*block(CHANGES))).front)
    assert [row["label"] for row in plot.data["labelled"]] == ["default", "990 MHz", "1500 MHz"]


def test_only_the_page_chooses_colours_by_its_ground(plots):
    assert not any("config" in plot.for_page() for plot in plots)
    assert all(plot.for_file()["config"]["range"]["category"] == ON_LIGHT for plot in plots)


def test_a_heat_map_marks_what_holds(plots):
    [plot] = [plot for plot in plots if plot.name == "features-energy_j"]
    texts = {(row["feature"], row["model"]): row["text"] for row in plot.data["cells"]}
    assert texts["num_prompt_tokens", "all models"] == texts["num_prompt_tokens", "small"] == "+0.90*"
    assert texts["mtld", "small"] == "−0.10"


def test_a_front_of_one_point_is_not_drawn():
    assert plot_fronts(study_trials(frame(trial(None, 1.0))).front) == []


def test_an_axis_does_not_make_a_cliff_of_a_little():
    assert domain_of([1.0, 1.01]) == pytest.approx((0.904, 1.106))
    assert domain_of([1.0, None, 2.0]) == (1.0, 2.0)
    assert domain_of([5.0]) == pytest.approx((4.5, 5.5))


def test_every_line_of_a_logarithmic_axis_has_a_number():
    assert axis_for([0.02, 0.9]).to_dict()["values"] == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
    assert axis_for([0.002, 90.0]).to_dict()["values"] == [0.001, 0.01, 0.1, 1.0, 10.0, 100.0]
    assert "values" not in axis_for([1.0, 2.0]).to_dict()


def test_a_default_clock_with_verdicts_alone_bears_their_mark():
    rows = [trial(None, 1.0, verdicts=["trace_gap"]), trial(990, 0.8), trial(750, 0.9)]
    [plot] = plot_energy(study_trials(frame(*rows)).points)
    assert [row["clock"] for row in plot.data["unsound"]] == [row["clock"] for row in plot.data["default"]]


def test_what_is_not_known_is_not_drawn(store):
    study = study_trials(frame(trial(None, None, None)))
    assert plot_energy(study.points) == plot_times(study.points) == plot_fronts(study.front) == []
    assert plot_quality(study.front) == []
    assert plot_heat_maps(study.correlations, simulated=False) == []
    assert plot_power(study_trials(frame(trial(None, 1.0) | {"start_ns": None})), store) == []


def test_power_shows_the_default_and_the_recommended_point_with_their_phases(plots):
    power = [plot for plot in plots if plot.name.startswith("power")]
    assert [plot.title.rsplit(", ", 1)[1] for plot in power] == ["the default clock", "990 MHz"] * 2
    bands = power[0].data["bands"]
    assert bands[0] == {"phase": "window", "start_s": 0.0, "end_s": 10.0}
    assert [band["phase"] for band in bands[1:]] == ["prefill", "decode"]
    assert len(power[0].data["readings"]) <= 600


@pytest.mark.parametrize(("picture_format", "magic"), [("png", b"\x89PNG"), ("svg", b"<svg")])
def test_pictures_are_written_for_papers(store, monkeypatch, picture_format, magic):
    study = study_trials(frame(*block(CHANGES)))
    written = write_pictures(store, study, picture_format)
    assert written[:2] == [f"plots/energy-qa-4.{picture_format}", f"plots/latency-qa-4.{picture_format}"]
    assert all((store.directory / name).read_bytes().startswith(magic) for name in written)
