"""Random loads on a GPU: stretches of constant power that are steady, or change in steps, ramps, bursts or waves."""

import math
import random
from collections.abc import Iterator

MIN_POWER_W, MAX_POWER_W = 130.0, 700.0
"""From the idle power of an H200 at its highest clock to its power limit."""
RAMP_STEP_S = 0.01
Stretch = tuple[float, float]
"""(s, W)"""


def draw_load(rng: random.Random, window_s: float) -> tuple[str, list[Stretch]]:
    """Return a kind of load and its stretches of constant power, which fill the window."""
    kind = rng.choice(sorted(_KINDS))
    stretches: list[Stretch] = []
    left_s = window_s
    for seconds, power_w in _KINDS[kind](rng, window_s):
        stretches.append((min(seconds, left_s), power_w))
        left_s -= seconds
        if left_s <= 0:
            break
    return kind, stretches


def _power_w(rng: random.Random) -> float:
    return rng.uniform(MIN_POWER_W, MAX_POWER_W)


def _steady(rng: random.Random, window_s: float) -> Iterator[Stretch]:
    yield window_s, _power_w(rng)


def _steps(rng: random.Random, window_s: float) -> Iterator[Stretch]:
    """Levels that last seconds, like static batches."""
    mean_s = window_s / rng.randint(2, 8)
    while True:
        yield rng.expovariate(1 / mean_s), _power_w(rng)


def _ramps(rng: random.Random, window_s: float) -> Iterator[Stretch]:
    low_w = _power_w(rng)
    while True:
        high_w = _power_w(rng)
        num_steps = max(round(rng.uniform(0.1, 0.6) * window_s / RAMP_STEP_S), 1)
        for k in range(num_steps):
            yield RAMP_STEP_S, low_w + (high_w - low_w) * (k + 0.5) / num_steps
        low_w = high_w


def _bursts(rng: random.Random, window_s: float) -> Iterator[Stretch]:
    """Two levels in turn, each with lengths of its own, like prefill among decoding."""
    levels_w = _power_w(rng), _power_w(rng)
    means_s = rng.uniform(0.01, 0.5), rng.uniform(0.01, 0.5)
    while True:
        for level_w, mean_s in zip(levels_w, means_s, strict=True):
            yield mean_s * rng.uniform(0.5, 1.5), level_w


def _square_wave(rng: random.Random, window_s: float) -> Iterator[Stretch]:
    """Two levels at a fixed period, which may beat with the period of a sensor."""
    levels_w = _power_w(rng), _power_w(rng)
    period_s, duty = math.exp(rng.uniform(math.log(0.02), math.log(3.0))), rng.uniform(0.1, 0.9)
    while True:
        yield period_s * duty, levels_w[0]
        yield period_s * (1 - duty), levels_w[1]


_KINDS = {"steady": _steady, "steps": _steps, "ramps": _ramps, "bursts": _bursts, "square wave": _square_wave}
