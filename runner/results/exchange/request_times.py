"""The times of a trial's requests as other tools count them: arrays by request, and their statistics.

Rows of `tables.REQUESTS` enter. Next: the formats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

PERCENTS = (90, 95, 99)
"""Beside the median. Other tools use p99 above all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestTimes:
    """[num_requests] values in order of arrival. Times are None for a request that failed, or where unknown."""

    errors: list[str]
    """Empty for a request that ended well."""
    num_prompt_tokens: list[int]
    num_output_tokens: list[int]
    start_s: list[float | None]
    """Arrival, in seconds from the start of the window."""
    ttft_s: list[float | None]
    latency_s: list[float | None]

    @property
    def tpot_s(self) -> list[float | None]:
        """Time per output token after the first. None for a request with one output token."""
        return [
            (latency - ttft) / (num_tokens - 1) if ttft is not None and latency is not None and num_tokens > 1 else None
            for ttft, latency, num_tokens in zip(self.ttft_s, self.latency_s, self.num_output_tokens, strict=True)
        ]

    @property
    def mean_token_gap_s(self) -> float | None:
        """The mean time between two tokens of a request, over all tokens: the mean inter-token latency.

        The single gaps are not known, since a trial keeps the first and the last token of each request.
        """
        pairs = [(tpot, n - 1) for tpot, n in zip(self.tpot_s, self.num_output_tokens, strict=True) if tpot is not None]
        num_gaps = sum(number for _, number in pairs)
        return sum(tpot * number for tpot, number in pairs) / num_gaps if num_gaps else None

    @property
    def most_in_flight(self) -> int | None:
        """The most requests that were in flight at one instant; None where no times are known."""
        edges = [
            (time_s, change)
            for start_s, latency_s in zip(self.start_s, self.latency_s, strict=True)
            if start_s is not None and latency_s is not None
            for time_s, change in ((start_s, 1), (start_s + latency_s, -1))
        ]
        if not edges:
            return None
        return int(np.cumsum([change for _, change in sorted(edges)]).max())


def read_request_times(requests: pl.DataFrame, start_ns: int) -> RequestTimes:
    """Return the times of a trial's requests.

    Args:
        requests: [num_requests] rows of `tables.REQUESTS` of one trial.
        start_ns: the start of its window.
    """
    counted = requests.filter(pl.col("in_window").fill_null(value=True))  # the ramp of an open loop is not counted
    rows = counted.sort("queued_ns", "request_id").to_dicts()
    is_known = [_is_known(row) for row in rows]

    def seconds(end: str, start: str) -> list[float | None]:
        return [(row[end] - row[start]) * 1e-9 if known else None for row, known in zip(rows, is_known, strict=True)]

    return RequestTimes(
        errors=[row["error"] or "" for row in rows],
        num_prompt_tokens=[row["num_prompt_tokens"] or 0 for row in rows],
        num_output_tokens=[0 if row["error"] is not None else row["num_output_tokens"] or 0 for row in rows],
        start_s=[
            (row["queued_ns"] - start_ns) * 1e-9 if known else None for row, known in zip(rows, is_known, strict=True)
        ],
        ttft_s=seconds("first_token_ns", "queued_ns"),
        latency_s=seconds("last_token_ns", "queued_ns"),
    )


def describe_times(values: Sequence[float | None], scale: float = 1.0) -> dict[str, float]:
    """Return mean, median, std (of the whole population) and the percentiles by name, times `scale`; {} without values.

    Percentiles are interpolated between two values, as numpy does.
    """
    known = scale * np.array([value for value in values if value is not None], dtype=float)
    if known.size == 0:
        return {}
    return {
        "mean": float(known.mean()),
        "median": float(np.median(known)),
        "std": float(known.std()),
        **{f"p{percent}": float(np.percentile(known, percent)) for percent in PERCENTS},
    }


def _is_known(row: dict[str, Any]) -> bool:
    times = (row["queued_ns"], row["first_token_ns"], row["last_token_ns"])
    return row["error"] is None and None not in times
