"""One plot for the page and for papers: its chart, its data, and what stands above it.

Text, axes and ground have no colours here. The page sets its own, since it is light or dark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import altair as alt
import polars as pl

from runner.display.text.names import Row
from runner.display.text.simulated import SIMULATED_NOTICE

HEIGHT = 260
"""Pixels."""
_FILE_WIDTH = 420
_HALF_LABEL = 20
"""Pixels that the last label of an axis may reach beyond it; Vega leaves it no room."""
ON_LIGHT = ("#0b62a8", "#d9730d", "#1b9ca3", "#a359f8", "#b52e2a", "#79020c", "#0f386f")
ON_DARK = ("#6cb4ff", "#ff9d45", "#a0e1d9", "#b635f0", "#db4a03", "#77a087", "#5c7a8a")
"""Colours of series on a light and on a dark ground. People who do not see red, green or blue can tell them apart."""
MAX_PLOTS = 36
"""Plots of each kind; readers do not get through more. The tables have the rest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A plot with its title and the note on how to read it."""

    name: str
    """Of its file."""
    title: str
    note: str
    """How to read it, in a sentence."""
    chart: alt.LayerChart | alt.FacetChart
    data: Mapping[str, Sequence[Row]]
    """What the chart draws, by the names in it."""
    simulated: bool
    is_broad: bool = False
    """Whether it takes the page's whole width."""

    def for_page(self) -> dict[str, Any]:
        """Return the Vega-Lite specification, as wide as its place on the page."""
        return self._specify("container", _title(self, with_name=False))

    def for_file(self) -> dict[str, Any]:
        """Return the Vega-Lite specification of a picture that stands alone."""
        colours = {"config": {"range": {"category": ON_LIGHT}}}  # on a page this would override the page's colours
        padding = {"padding": {"left": 5, "top": 5, "right": _HALF_LABEL, "bottom": 5}}
        return self._specify(_FILE_WIDTH, _title(self, with_name=True)) | colours | padding

    def _specify(self, width: int | str, title: Mapping[str, Any]) -> dict[str, Any]:
        # Validation takes longer than all the rest. The tests validate every plot.
        specification: dict[str, Any] = self.chart.properties(width=width, **title).to_dict(validate=False)
        specification.pop("config", None)
        specification["autosize"] = {"type": "fit-x", "contains": "padding"}
        specification["datasets"] = {
            name: [{key: _round(value) for key, value in row.items() if value is not None} for row in rows]
            for name, rows in self.data.items()
        }
        return specification


def chart_of(name: str) -> alt.Chart:
    """Return a chart of the rows that `Plot.data` holds under a name: altair would check and copy rows of its own."""
    return alt.Chart(alt.NamedData(name))


def file_name(*parts: object) -> str:
    """Join the parts that are known to a name that every file system allows."""
    text = "-".join(str(part) for part in parts if part is not None)
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)


def is_simulated(rows: pl.DataFrame) -> bool:
    """Whether any of the rows comes from a simulated GPU."""
    return bool(rows["simulated"].any())


def _title(plot: Plot, *, with_name: bool) -> dict[str, alt.Title]:
    """The page writes the name above the plot, where it wraps; the notice on simulated GPUs is always inside."""
    notice = SIMULATED_NOTICE if plot.simulated else ""
    if with_name:
        lines = wrap(plot.title, 60)
        return {"title": alt.Title(lines, subtitle=notice or alt.Undefined, anchor="start", fontSize=12)}
    return {"title": alt.Title(notice, anchor="start", fontSize=10)} if notice else {}


def _round(value: Any) -> Any:
    """Keep as many digits as can be seen."""
    return float(f"{value:.5g}") if isinstance(value, float) else value
