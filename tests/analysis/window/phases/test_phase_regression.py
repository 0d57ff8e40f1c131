"""The regression's own arithmetic and its refusals, on made-up windows whose joules a token are known."""

import random
from collections.abc import Callable
from dataclasses import asdict

import polars as pl
import pytest

from runner.analysis.window.phases.phase_regression import PhaseRegression, regress_phases
from runner.results.measurement import Measurement
from runner.results.tables import POWER, TRIALS
from runner.spec.request import Step
from tests.analysis.measurements import at, make_measurement

PREFILL_J, DECODE_J = 0.02, 0.5
STEP_S = 0.05

Work = Callable[[int], tuple[int, int]]
"""Step number to (prefill tokens, decode tokens)."""


def make_window(num_steps: int, work: Work, noise_w: float = 0.0) -> tuple[Measurement, float]:
    """A window of even steps whose power follows from their tokens, sampled each ms; and its energy."""
    rng = random.Random(0)
    counts = [work(k) for k in range(num_steps)]
    steps = [
        Step(time_ns=at((k + 1) * STEP_S), num_prefill_tokens=prefill, num_decode_tokens=decode, num_running=1)
        for k, (prefill, decode) in enumerate(counts)
    ]
    watts = [(PREFILL_J * prefill + DECODE_J * decode) / STEP_S + rng.gauss(0, noise_w) for prefill, decode in counts]
    rows = [
        dict.fromkeys(POWER)
        | {
            "gpu_uuid": "GPU-0",
            "time_ns": at((tick + 0.5) * 0.001),
            "power_w": watts[min(max(tick // 50, 0), num_steps - 1)],
        }
        for tick in range(-20, num_steps * 50 + 20)
    ]
    power = pl.DataFrame(rows, schema=POWER)
    return make_measurement([], num_steps * STEP_S, steps=steps, power=power), sum(watts) * STEP_S


def bursts(k: int) -> tuple[int, int]:
    return (8000, 0) if k % 7 < 2 else (0, 32 + k % 3)


def regress(num_steps: int, work: Work, noise_w: float = 0.0) -> PhaseRegression:
    return regress_phases(*make_window(num_steps, work, noise_w))


def test_joules_that_the_window_was_made_of_are_found() -> None:
    found = regress(400, bursts, noise_w=20.0)
    assert found.regression_joules_per_prefill_token == pytest.approx(PREFILL_J, rel=0.02)
    assert found.regression_joules_per_decode_token == pytest.approx(DECODE_J, rel=0.02)
    assert found.regression_reason is None
    assert regress(400, bursts, noise_w=20.0) == found
    assert set(asdict(found)) <= set(TRIALS)


def test_the_energy_that_the_row_states_is_the_energy_that_is_split() -> None:
    measurement, energy_j = make_window(400, bursts)
    whole, half = regress_phases(measurement, energy_j), regress_phases(measurement, energy_j / 2)
    assert half.regression_joules_per_prefill_token == pytest.approx(whole.regression_joules_per_prefill_token / 2)
    assert half.regression_joules_per_decode_token == pytest.approx(whole.regression_joules_per_decode_token / 2)


@pytest.mark.parametrize(
    ("num_steps", "work", "noise_w", "reason"),
    [
        (400, lambda _: (0, 0), 0.0, "this version of the engine does not tell its steps"),
        (400, lambda _: (100, 0), 0.0, "nothing was decoded"),
        (400, lambda k: (3 if k % 7 == 0 else 0, 32), 0.0, "prefill is 1.3% of the tokens, under 10%"),
        (30, bursts, 0.0, "the window holds 15 bins, fewer than 20"),
        (400, lambda k: (100 + k % 2, 100), 0.0, "prefill and decoding go together: condition number"),
        (400, bursts, 2000.0, "the bootstrap interval of decode spans"),
    ],
)
def test_a_refusal_says_why_and_leaves_no_number(num_steps: int, work: Work, noise_w: float, reason: str) -> None:
    found = regress(num_steps, work, noise_w)
    assert found == PhaseRegression(regression_reason=found.regression_reason)
    assert found.regression_reason.startswith(reason)


def test_without_a_trace_or_an_energy_there_is_no_regression() -> None:
    measurement, energy_j = make_window(400, bursts)
    blind = make_measurement([], 20.0, steps=measurement.steps, power=measurement.power.clear())
    for found in (regress_phases(blind, energy_j), regress_phases(measurement, None)):
        assert found == PhaseRegression(regression_reason="there is no power trace of the whole window")
