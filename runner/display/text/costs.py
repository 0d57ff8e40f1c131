"""What stands behind the numbers of money and carbon: the tariff, and what is counted.

A `Tariff` and rows of `costs.COSTS` enter. Text leaves.
"""

from collections.abc import Iterator, Sequence

from runner.analysis.advice.tariff import Tariff
from runner.display.text.names import Row


def describe_costs(costs: Sequence[Row], tariff: Tariff) -> Iterator[str]:
    """Say of what the numbers are, and which energy they count.

    Args:
        costs: [num_points] rows of `costs.COSTS`.
    """
    kinds = {row["token_kind"] for row in costs}
    of = {
        frozenset({"output"}): "a million output tokens",
        frozenset({"prompt"}): "a million prompt tokens, since these tasks generate none",
    }.get(frozenset(kinds), "a million tokens: output tokens, or prompt tokens where a task generates none")
    yield f"Of {of}. Tariff: {tariff}."
    times = f", times the PUE of {tariff.pue:g}" if tariff.pue is not None else ""
    yield f"kWh are the energy of the GPU in the whole window{times}. The energy of the host is not in them."
    if tariff.pue is None:
        yield "No --pue is given, so cooling and power supplies are not in them either."
    if any(row["kwh_per_good_request"] is not None for row in costs):
        yield "A good request kept the SLO. Requests that missed it cost energy too, and it is counted."


def name_costs(tariff: Tariff) -> str:
    """Say in a line below a table of one block which energy its numbers count."""
    return f"tariff: {tariff} · kWh: energy of the GPU{' × PUE' if tariff.pue is not None else ''}, without the host"
