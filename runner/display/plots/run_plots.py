"""Every plot of a run, on its page and as pictures for papers. Importing it takes a second, which tables spare."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import vl_convert

from runner.analysis.study import Study
from runner.display.plots.clock_plots import plot_energy, plot_times
from runner.display.plots.front_plots import plot_fronts, plot_heat_maps, plot_quality
from runner.display.plots.plot import Plot, is_simulated
from runner.display.plots.power_plots import plot_power
from runner.display.report.page import render_page
from runner.results.run_directory import RunStore, write_atomically

PictureFormat = Literal["png", "svg"]
PICTURES = "plots"
"""The folder of a run directory that holds them."""
_PIXELS_PER_POINT = 3.0
"""300 dots an inch at 3.2 inches, a column of a paper."""


def make_plots(study: Study, store: RunStore) -> dict[str, list[Plot]]:
    """Draw every plot of a run, by the title of its section."""
    return {
        "Energy per token against the clock": plot_energy(study.points),
        "Time against the clock": plot_times(study.points),
        "Pareto front": plot_fronts(study.front),
        "Quality against energy": plot_quality(study.front),
        "Power over time": plot_power(study, store),
        "What an input costs": plot_heat_maps(study.correlations, simulated=is_simulated(study.trials)),
    }


def write_page(store: RunStore, study: Study, manifest: Mapping[str, Any]) -> str:
    """Write report.html into the run directory; returns the file's name."""
    page = render_page(study, manifest, make_plots(study, store))
    write_atomically(store.directory / "report.html", page.encode())
    return "report.html"


def write_pictures(store: RunStore, study: Study, picture_format: PictureFormat) -> list[str]:
    """Write every plot into the run directory as a picture, in dark on white; returns the files' names."""
    written = []
    for plot in (plot for plots in make_plots(study, store).values() for plot in plots):
        specification = json.dumps(plot.for_file())
        path = store.directory / PICTURES / f"{plot.name}.{picture_format}"
        if picture_format == "png":
            write_atomically(path, vl_convert.vegalite_to_png(specification, scale=_PIXELS_PER_POINT))
        else:
            write_atomically(path, vl_convert.vegalite_to_svg(specification).encode())
        written.append(f"{PICTURES}/{path.name}")
    return written
