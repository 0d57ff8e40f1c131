"""Request rates in words: what to set at each rate, and what following the load saves.

Rows of `rates.RATES` and `rates.FOLLOWING` enter; text leaves.
"""

from collections.abc import Sequence

from runner.display.text.names import Row, name_point
from runner.display.text.quantities import MINUS, UNKNOWN, format_change, format_change_interval

FOLLOWING_MEANING = (
    "Each rate counts as equally long. An operating point counts where it is sound and keeps the SLO and the limits."
)


def describe_following(row: Row, rates: Sequence[Row]) -> str:
    """Say what to set over all rates of a model and task, and what following the load adds.

    Args:
        row: of `rates.FOLLOWING`.
        rates: of `rates.RATES`, of the same model, task and burstiness.
    """
    about = f"{row['task']} on {row['model']}, {_span(rates)}"
    if row["static_change"] is None:
        following = (
            f"; following the load changes the energy by {format_change(row['following_change'])}"
            if row["following_change"] is not None
            else ""
        )
        return f"{about}: there is no one operating point to set, since {row['reason']}{following}."
    at_one = f"set {name_point(row)} for all rates: {format_change(row['static_change'])} energy"
    if row["is_default"]:
        at_one = "keep the default clock for all rates"
    gain = row["following_against_static"]
    more = f"{abs(100 * gain):.1f} % more" if gain < 0 else "nothing more"
    return f"{about}: {at_one}. Following the load with the best clock at each rate saves {more}."


def describe_choice(row: Row) -> str:
    """Say which operating point a rate's choice is, e.g. "1215 MHz", or why there is none."""
    return UNKNOWN if row["reason"] is not None else name_point(row).removeprefix("the ").removesuffix(" clock")


def describe_saving(row: Row) -> str:
    """Return the change of the energy of a good request against the default clock, with its interval, in per cent."""
    if row["reason"] is not None:
        return UNKNOWN
    if row["is_default"]:
        return "base"
    return format_change_interval(row["change"], row["change_low"], row["change_high"])


def describe_attainment(fraction: float | None) -> str:
    """Return a share of good requests in per cent; 100 only where every one was good."""
    if fraction is None:
        return UNKNOWN
    return "100" if fraction == 1 else f"{min(100 * fraction, 99.9):.1f}".replace("-", MINUS)


def _span(rates: Sequence[Row]) -> str:
    known = [row["request_rate_per_s_requested"] for row in rates]
    bursts = {row["burstiness"] for row in rates} - {1.0}
    burstiness = f", burstiness {bursts.pop():g}" if len(bursts) == 1 else ""
    return f"{min(known):.3g} to {max(known):.3g} requests/s{burstiness}"
