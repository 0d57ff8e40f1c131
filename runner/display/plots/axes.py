"""Scales, axes and legends of plots, chosen by the values that are drawn."""

import math
from collections.abc import Sequence

import altair as alt

LOG_FROM = 4.0
"""Values that span more than this factor get a logarithmic axis."""
LEAST_SPAN = 0.2
"""The least range of an axis, as a share of its greatest value. It keeps a difference of 1 % from looking large."""


def spans_widely(values: Sequence[float | None]) -> bool:
    """Return whether a linear axis would press the smaller values together."""
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
    """Return the range of an axis: its values, and at least LEAST_SPAN of the greatest."""
    known = [value for value in values if value is not None]
    least, greatest = min(known), max(known)
    missing = max(LEAST_SPAN * greatest - (greatest - least), 0.0)
    return least - missing / 2, greatest + missing / 2


def axis_for(values: Sequence[float | None]) -> alt.Axis:
    """Return an axis with few ticks; on a logarithmic scale each tick has its label."""
    if not spans_widely(values):
        return alt.Axis(tickCount=5, labelOverlap="greedy")
    known = [value for value in values if value is not None and value > 0]
    powers = range(math.floor(math.log10(min(known))), math.ceil(math.log10(max(known))) + 1)
    steps = (1, 2, 5) if len(powers) < 4 else (1,)
    ticks = [float(f"{step}e{power}") for power in powers for step in steps]
    return alt.Axis(values=ticks, labelOverlap="greedy")


def legend_for(names: Sequence[str]) -> alt.Legend | None:
    """Return a legend above the plot, in one column where names are long; none for a single name."""
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
