"""Every plot of a run, by its place on the page. The import takes a second, since altair is large.

A `Study` and the run directory enter; `Plot`s leave. Next: `pictures.py`, and the page of `report`.
"""

from runner.analysis.study import Study
from runner.display.plots.clock_plots import plot_energy, plot_times
from runner.display.plots.front_plots import plot_fronts, plot_quality
from runner.display.plots.heat_maps import plot_heat_maps
from runner.display.plots.plot import Plot, is_simulated
from runner.display.plots.power_plots import plot_power
from runner.display.text.figures import FigureKind
from runner.results.run_directory import RunStore


def make_plots(study: Study, store: RunStore) -> dict[FigureKind, list[Plot]]:
    """Draw every plot of a run, in the order of the page."""
    return {
        "energy": plot_energy(study.points),
        "time": plot_times(study.points),
        "front": plot_fronts(study.front),
        "quality": plot_quality(study.front),
        "power": plot_power(study, store),
        "inputs": plot_heat_maps(study.correlations, simulated=is_simulated(study.trials)),
    }
