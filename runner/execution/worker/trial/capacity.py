"""The capacity of a model on a GPU: the highest request rate that keeps the SLO.

A loaded engine, a round of requests and an SLO enter; a rate leaves. Bisection on paired arrivals: every rate has the
same gaps, scaled. A rate is tried with more arrivals until the interval of its attainment leaves out the required
share, or three times at most. Next: `block_measurer.py` takes a share of it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from runner.analysis.window.service import keeps_slo
from runner.execution.worker.trial.procedure import Procedure
from runner.execution.worker.trial.rounds import until_interrupted
from runner.inference.arrivals import Arrivals, draw_arrivals
from runner.inference.engine import Engine, EngineRun
from runner.spec.load import ClosedLoop, OpenLoop
from runner.spec.request import Completion, Request
from runner.spec.serving.slo import Slo

MOST_IN_FLIGHT = 256
"""Requests in flight when the bound from above is found: vLLM's usual limit."""
NUM_ARRIVALS = 400
"""In one try of a rate. One good request in a hundred counts for a quarter of the 1 % that an SLO of 99 % allows."""
MAX_TRIES = 3
RESOLUTION = 0.03
"""The search ends when the rates that do and do not keep the SLO differ by this share."""
LOWEST_SHARE = 0.02
"""Of the bound from above. Where not even this rate keeps the SLO, there is no capacity."""
Z_95 = 1.96


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What a search found."""

    rate_per_s: float | None
    """The highest rate tried that keeps the SLO; None where no rate does."""
    broken_rate_per_s: float
    """The lowest rate tried that does not keep it."""
    num_rates: int
    """How many rates were tried."""


def find_capacity(
    engine: Engine,
    requests: Sequence[Request],
    slo: Slo,
    procedure: Procedure,
    *,
    burstiness: float = 1.0,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> Capacity:
    """Return the highest request rate at which the required share of requests keeps the SLO.

    Args:
        requests: one round of the task, [num_requests].
        procedure: its seed draws the arrivals; its deadline limits each try.
        is_interrupted: asked before each request and each rate.
    Raises: EngineError.
    """
    search = _Search(engine, requests, slo, procedure, is_interrupted)
    bound = broken = search.find_bound()
    kept: float | None = None
    rate, num_rates = broken / 2, 0
    while not is_interrupted() and broken - (kept or 0.0) > RESOLUTION * broken and rate > LOWEST_SHARE * bound:
        num_rates += 1
        if search.is_kept_at(OpenLoop(request_rate_per_s=rate, burstiness=burstiness)):
            kept = rate
        else:
            broken = rate
        rate = broken / 2 if kept is None else math.sqrt(kept * broken)
    return Capacity(rate_per_s=kept, broken_rate_per_s=broken, num_rates=num_rates)


@dataclass(frozen=True)
class _Search:
    """What every try of a rate shares."""

    engine: Engine
    requests: Sequence[Request]
    slo: Slo
    procedure: Procedure
    is_interrupted: Callable[[], bool]

    def find_bound(self) -> float:
        """Return a rate above the capacity: what is served with the most requests in flight, and a tenth more."""
        run = self._run(islice(cycle(self.requests), 2 * MOST_IN_FLIGHT), ClosedLoop(concurrency=MOST_IN_FLIGHT))
        num_served = sum(completion.error is None for completion in run.completions)
        return 1.1 * max(num_served, 1) / max((run.end_ns - run.start_ns) * 1e-9, 1e-3)

    def is_kept_at(self, load: OpenLoop) -> bool:
        """Return whether a rate keeps the SLO, from as many arrivals as it takes to tell."""
        num_good = num_arrived = 0
        for number in range(MAX_TRIES):
            completions = self._try_rate(load, self.procedure.seed + 2 * number)
            if self.is_interrupted() or not completions:
                return False
            num_arrived += len(completions)
            num_good += sum(keeps_slo(completion, self.slo) for completion in completions)
            low, high = _wilson(num_good, num_arrived)
            if not low < self.slo.share <= high:
                break
        return num_good >= self.slo.share * num_arrived

    def _try_rate(self, load: OpenLoop, seed: int) -> list[Completion]:
        window_s = NUM_ARRIVALS / (load.request_rate_per_s or 1.0)
        ramp_s = min(self.procedure.ramp_s, window_s)
        arrivals = draw_arrivals(load, num_round=NUM_ARRIVALS, min_window_s=window_s, ramp_s=ramp_s, seed=seed)
        run = self._run(cycle(self.requests), arrivals)
        return [completion for completion in run.completions if completion.in_window]

    def _run(self, requests: Iterator[Request], load: ClosedLoop | Arrivals) -> EngineRun:
        return self.engine.run(
            until_interrupted(self.is_interrupted, requests),
            load,
            self.procedure.sampling,
            deadline_s=self.procedure.deadline_s,
        )


def _wilson(num_good: int, num_all: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson)."""
    share, z2 = num_good / num_all, Z_95**2
    centre = (share + z2 / (2 * num_all)) / (1 + z2 / num_all)
    half = Z_95 / (1 + z2 / num_all) * math.sqrt(share * (1 - share) / num_all + z2 / (4 * num_all**2))
    return centre - half, centre + half
