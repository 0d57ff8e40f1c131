"""When the requests of an open loop arrive.

A rate, a burstiness and a seed enter; `Arrivals` leave, which an engine's loop follows. The gaps are those of
`vllm bench serve`: drawn from a gamma distribution, then scaled so that the last of n requests arrives at n / rate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from runner.spec.load import OpenLoop


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """The arrivals of one run: a ramp, then the window, then the window's arrivals again until its requests have ended.

    Times are in s from the start of the run.
    """

    ramp: tuple[float, ...]
    """Arrivals before the window opens, ascending."""
    ramp_s: float
    """When the window opens."""
    window: tuple[float, ...]
    """Arrivals in the window, ascending, from the window's start."""
    window_s: float
    follow_s: float
    """How long after the window its requests are followed to their end. What is left then is withdrawn."""

    @property
    def num_ramp(self) -> int:
        """Requests that arrive before the window opens."""
        return len(self.ramp)

    def time_s(self, ordinal: int) -> float:
        """Return when a request arrives, by its number from 0."""
        if ordinal < len(self.ramp):
            return self.ramp[ordinal]
        times_over, place = divmod(ordinal - len(self.ramp), len(self.window))
        return self.ramp_s + times_over * self.window_s + self.window[place]

    def is_in_window(self, ordinal: int) -> bool:
        """Return whether a request arrives in the window, by its number from 0."""
        return len(self.ramp) <= ordinal < len(self.ramp) + len(self.window)

    @property
    def edges_s(self) -> tuple[float, float]:
        """When the window opens and closes."""
        return self.ramp_s, self.ramp_s + self.window_s

    @cached_property
    def limit_s(self) -> float:
        """When the run ends at the latest."""
        return self.ramp_s + self.window_s + self.follow_s


def draw_arrivals(load: OpenLoop, *, num_round: int, min_window_s: float, ramp_s: float, seed: int) -> Arrivals:
    """Draw the arrivals of a trial. The same load and seed give the same ones, at every operating point.

    Args:
        load: with a known rate.
        num_round: requests in a round of the task. The window holds whole rounds, so that all prompts arrive as often.
        min_window_s: the window's least length.
    """
    rate_per_s = load.request_rate_per_s
    assert rate_per_s is not None, "the rate of a share of capacity must be known before arrivals are drawn"
    num_rounds = max(math.ceil(round(rate_per_s * min_window_s / num_round, 9)), 1)
    num_window = num_rounds * num_round
    window = draw_times(num_window, rate_per_s, load.burstiness, seed)
    num_ramp = math.ceil(round(rate_per_s * ramp_s, 9))
    ramp = draw_times(num_ramp, rate_per_s, load.burstiness, seed + 1)
    window_s = num_window / rate_per_s
    return Arrivals(
        ramp=tuple(ramp.tolist()),
        ramp_s=num_ramp / rate_per_s,
        window=tuple(window.tolist()),
        window_s=window_s,
        follow_s=max(window_s, MIN_FOLLOW_S),
    )


def replay_arrivals(arrival_s: Sequence[float], duration_s: float, ramp_s: float) -> Arrivals:
    """Return the arrivals of a trace. Those of its first `ramp_s` are the ramp, the others its window.

    Args:
        arrival_s: from the start of the trace, ascending.
    """
    window_s = duration_s - ramp_s
    return Arrivals(
        ramp=tuple(at_s for at_s in arrival_s if at_s <= ramp_s),
        ramp_s=ramp_s,
        window=tuple(at_s - ramp_s for at_s in arrival_s if at_s > ramp_s),
        window_s=window_s,
        follow_s=max(window_s, MIN_FOLLOW_S),
    )


MIN_FOLLOW_S = 30.0
"""A window's requests are followed for as long as the window lasted, and at least this long."""


def draw_times(num_requests: int, rate_per_s: float, burstiness: float, seed: int) -> NDArray[np.float64]:
    """Return [num_requests] arrival times in s, as `vllm bench serve --seed` draws them before it draws anything else.

    Source: vllm/benchmarks/serve.py, `get_request`.
    """
    if burstiness == float("inf"):
        gaps_s = np.full(num_requests, 1 / rate_per_s)
    else:
        gaps_s = np.random.RandomState(seed).gamma(burstiness, 1 / (rate_per_s * burstiness), num_requests)
    times_s = np.cumsum(gaps_s)
    if num_requests and times_s[-1] > 0:
        times_s *= num_requests / rate_per_s / times_s[-1]
    return times_s


def explain_too_long(load: OpenLoop, num_round: int, total_s: float, limit_s: float) -> str | None:
    """Say why a trial cannot be measured whose ramp and window last longer than its limit; None where they do not.

    Args:
        num_round: requests in a round of the task.
        total_s: of the ramp and the window.
        limit_s: limits.trial_s of the sweep.
    """
    if total_s <= limit_s:
        return None
    return (
        f"{num_round} requests at {load.request_rate_per_s:g}/s arrive over {total_s:.0f} s with the ramp, longer than "
        f"limits.trial_s = {limit_s:g}: take fewer requests (limit or num_requests), a higher rate, or raise the limit"
    )
