"""Plots for the page and for papers: what every one of them has in common.

Colours of text, axes and ground are left to whoever shows a plot: the page is light or dark. Next: page, plot_files.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import altair as alt
import polars as pl

from runner.display.live.dashboard import SIMULATED_NOTICE
from runner.display.text.findings import name_point

Row = Mapping[str, Any]

HEIGHT = 260
"""Pixels."""
_FILE_WIDTH = 420
_HALF_LABEL = 20
"""Pixels that the last label of an axis may reach beyond it; Vega leaves it no room."""
LOG_FROM = 4.0
"""Values that span more than this factor get a logarithmic axis."""
LEAST_SPAN = 0.2
"""An axis reaches over so much of its values at least: a difference of 1 % shall not look like a cliff."""
ON_LIGHT = ("#0b62a8", "#d9730d", "#1b9ca3", "#a359f8", "#b52e2a", "#79020c", "#0f386f")
ON_DARK = ("#6cb4ff", "#ff9d45", "#a0e1d9", "#b635f0", "#db4a03", "#77a087", "#5c7a8a")
"""Colours of series on a light and on a dark ground, told apart also by who does not see red, green or blue."""
MAX_PLOTS = 36
"""Of each kind; a page with more is not read. The tables have the rest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A plot with what stands above it."""

    name: str
    """For a file."""
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
        colours = {"config": {"range": {"category": ON_LIGHT}}}  # a page's own would give way to it
        padding = {"padding": {"left": 5, "top": 5, "right": _HALF_LABEL, "bottom": 5}}
        return self._specify(_FILE_WIDTH, _title(self, with_name=True)) | colours | padding

    def _specify(self, width: int | str, title: Mapping[str, Any]) -> dict[str, Any]:
        # Validation takes longer than all the rest; tests draw every plot.
        specification: dict[str, Any] = self.chart.properties(width=width, **title).to_dict(validate=False)
        specification.pop("config", None)
        specification["autosize"] = {"type": "fit-x", "contains": "padding"}
        specification["datasets"] = {
            name: [{key: _round(value) for key, value in row.items() if value is not None} for row in rows]
            for name, rows in self.data.items()
        }
        return specification


def chart_of(name: str) -> alt.Chart:
    """Return a chart of the rows that its plot's data holds under a name: altair would check and copy every row."""
    return alt.Chart(alt.NamedData(name))


def spans_widely(values: Sequence[float | None]) -> bool:
    """Whether a linear axis would press the smaller ones together."""
    known = [value for value in values if value is not None and value > 0]
    return bool(known) and max(known) > LOG_FROM * min(known)


def scale_for(values: Sequence[float | None], *, padding: int = 12, nice: bool = True) -> alt.Scale:
    """Return a scale without zero, logarithmic where the values are far apart.

    Args:
        values: what is drawn, one at least.
        padding: pixels at either end.
        nice: whether a linear scale begins and ends at a round value.
    """
    domain = list(domain_of(values))
    if spans_widely(values):
        return alt.Scale(type="log", nice=False, padding=padding, domain=domain)
    return alt.Scale(zero=False, nice=nice, padding=padding, domain=domain)


def domain_of(values: Sequence[float | None]) -> tuple[float, float]:
    """Return from where to where an axis reaches: over its values, and over LEAST_SPAN of the greatest at least."""
    known = [value for value in values if value is not None]
    least, greatest = min(known), max(known)
    missing = max(LEAST_SPAN * greatest - (greatest - least), 0.0)
    return least - missing / 2, greatest + missing / 2


def axis_for(values: Sequence[float | None]) -> alt.Axis:
    """Return an axis of few ticks; on a logarithmic scale each of them has its label."""
    if not spans_widely(values):
        return alt.Axis(tickCount=5, labelOverlap="greedy")
    known = [value for value in values if value is not None and value > 0]
    powers = range(math.floor(math.log10(min(known))), math.ceil(math.log10(max(known))) + 1)
    steps = (1, 2, 5) if len(powers) < 4 else (1,)
    ticks = [float(f"{step}e{power}") for power in powers for step in steps]
    return alt.Axis(values=ticks, labelOverlap="greedy")


def legend_for(names: Sequence[str]) -> alt.Legend | None:
    """Return a legend above the plot, one column on a narrow page; none for a single name."""
    if len(names) < 2:
        return None
    return alt.Legend(
        orient="top",
        title=None,
        columns=1 if max(map(len, names)) > 24 else 2,
        labelLimit=320,
        symbolType="circle",
        symbolOpacity=1,
    )


def short_point(point: Row) -> str:
    """Name an operating point in as few letters as a table needs."""
    return name_point(point).removeprefix("the ").removesuffix(" clock")


def shortest_point(point: Row) -> str:
    """Name an operating point beside its mark, e.g. "2602/14001 MHz": SM clock, then memory clock."""
    clocks = [point[name] for name in ("sm_clock_mhz_requested", "mem_clock_mhz_requested") if point[name] is not None]
    limit = point["power_limit_w_requested"]
    parts = ["/".join(f"{clock}" for clock in clocks) + " MHz"] if clocks else []
    return ", ".join(parts + ([f"{limit:.0f} W"] if limit is not None else [])) or "default"


def name_group(row: Row) -> str:
    """Name a task, and how many requests were in flight."""
    concurrency = row.get("concurrency")
    return f"{row['task']}" if concurrency is None else f"{row['task']}, {concurrency} in flight"


def file_name(*parts: object) -> str:
    """Join the known parts to a name that any file system takes."""
    text = "-".join(str(part) for part in parts if part is not None)
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)


def is_simulated(rows: pl.DataFrame) -> bool:
    """Whether any of the rows comes from a simulated GPU."""
    return bool(rows["simulated"].any())


def _title(plot: Plot, *, with_name: bool) -> dict[str, alt.Title]:
    """The page has the name above the plot, where it can be wrapped; the notice is always inside."""
    notice = SIMULATED_NOTICE if plot.simulated else ""
    if with_name:
        lines = wrap(plot.title, 60)
        return {"title": alt.Title(lines, subtitle=notice or alt.Undefined, anchor="start", fontSize=12)}
    return {"title": alt.Title(notice, anchor="start", fontSize=10)} if notice else {}


def _round(value: Any) -> Any:
    """As many digits as can be seen."""
    return float(f"{value:.5g}") if isinstance(value, float) else value
