"""Prefill and decode by static batches, on batches whose joules a token are known.

A batch: 0.8 s of prefill at 600 W (4,800 tokens, 0.1 J each), then 1.2 s of decoding at 300 W (144 tokens, 2.5 J each).
"""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from runner.analysis.window.phases.phase_energy import Phases
from runner.analysis.window.phases.static_batches import describe_batches
from runner.analysis.window.work import count_work
from runner.results.measurement import Measurement
from runner.results.tables import POWER
from runner.spec.request import Step
from tests.analysis.measurements import at, make_completion, make_measurement

BATCH_S, PREFILL_S = 2.0, 0.8
PREFILL_W, DECODE_W = 600.0, 300.0
NUM_REQUESTS, NUM_PROMPT_TOKENS, NUM_DECODED = 12, 400, 12
PREFILL_J = PREFILL_W * PREFILL_S / (NUM_REQUESTS * NUM_PROMPT_TOKENS)
DECODE_J = DECODE_W * (BATCH_S - PREFILL_S) / (NUM_REQUESTS * NUM_DECODED)


def power_w(time_s: float, factor: float = 1.0) -> float:
    return factor * (PREFILL_W if time_s % BATCH_S < PREFILL_S else DECODE_W)


def make_batches(num: int, *, factors: tuple[float, ...] = (), beside: int = 0) -> Measurement:
    """Batches back to back, sampled each 20 ms between the edges of the phases.

    Args:
        factors: multiplies each batch's power.
        beside: tokens that are decoded in the steps of prefill, of each batch.
    """
    completions, steps = [], []
    for batch in range(num):
        start_s = BATCH_S * batch
        completions += [
            make_completion(
                f"r/{k}",
                start_s,
                start_s + PREFILL_S,
                start_s + BATCH_S,
                round=batch,
                num_prompt_tokens=NUM_PROMPT_TOKENS,
                num_output_tokens=NUM_DECODED + 1,
            )
            for k in range(NUM_REQUESTS)
        ]
        for k in range(8):
            steps.append(_make_step(start_s + 0.1 * (k + 1), NUM_REQUESTS * NUM_PROMPT_TOKENS // 8, beside // 8))
        for k in range(NUM_DECODED):
            steps.append(_make_step(start_s + PREFILL_S + 0.1 * (k + 1), 0, NUM_REQUESTS))
    rows = [
        dict.fromkeys(POWER)
        | {
            "gpu_uuid": "GPU-0",
            "time_ns": at(0.02 * k + 0.01),
            "power_w": power_w(0.02 * k + 0.01, dict(enumerate(factors)).get(int((0.02 * k + 0.01) // BATCH_S), 1.0)),
        }
        for k in range(-10, round(num * BATCH_S * 50) + 10)
    ]
    return make_measurement(
        completions,
        BATCH_S * num,
        steps=steps,
        power=pl.DataFrame(rows, schema=POWER),
        batch_edges_ns=tuple((at(BATCH_S * k), at(BATCH_S * (k + 1))) for k in range(num)),
    )


def _make_step(end_s: float, num_prefill_tokens: int, num_decode_tokens: int) -> Step:
    return Step(
        time_ns=at(end_s),
        num_prefill_tokens=num_prefill_tokens,
        num_decode_tokens=num_decode_tokens,
        num_running=NUM_REQUESTS,
    )


def total_j(num: int) -> float:
    return num * (PREFILL_W * PREFILL_S + DECODE_W * (BATCH_S - PREFILL_S))


def describe(measurement: Measurement, energy_j: float, uncertainty_j: float = 0.0) -> Phases:
    return describe_batches(measurement, count_work(measurement), energy_j, uncertainty_j)


def test_the_joules_that_the_batches_were_made_of_are_found() -> None:
    phases = describe(make_batches(3), total_j(3))
    assert (phases.phase_method, phases.phase_reason, phases.phase_interval) == ("static_batches", None, "batches")
    assert phases.joules_per_prefill_token == pytest.approx(PREFILL_J, rel=0.002)
    assert phases.joules_per_decode_token == pytest.approx(DECODE_J, rel=0.002)
    assert phases.prefill_energy_j == pytest.approx(3 * PREFILL_W * PREFILL_S, rel=0.002)
    assert phases.decode_energy_j == pytest.approx(3 * DECODE_W * 1.2, rel=0.002)
    assert phases.phase_residual_fraction == pytest.approx(0.0, abs=0.003)
    for name in ("prefill", "decode"):
        value = getattr(phases, f"joules_per_{name}_token")
        low, high = (getattr(phases, f"joules_per_{name}_token_{bound}") for bound in ("low", "high"))
        assert low <= value <= high
        assert high - low < 0.01 * value  # three equal batches


def test_batches_that_differ_give_students_interval() -> None:
    phases = describe(make_batches(3, factors=(0.9, 1.0, 1.1)), total_j(3))
    # t with two degrees of freedom is 4.3027; the standard error of 0.9, 1.0, 1.1 is 0.1 / sqrt(3).
    half_width = 4.3027 * 0.1 / 3**0.5
    assert phases.joules_per_decode_token == pytest.approx(DECODE_J, rel=0.005)
    assert phases.joules_per_decode_token_high == pytest.approx(DECODE_J * (1 + half_width), rel=0.01)
    assert phases.joules_per_prefill_token_low == pytest.approx(PREFILL_J * (1 - half_width), rel=0.01)


def test_what_the_sensor_may_miss_widens_the_intervals() -> None:
    phases = describe(make_batches(3), total_j(3), uncertainty_j=0.05 * total_j(3))
    assert phases.joules_per_decode_token_high == pytest.approx(1.05 * DECODE_J, rel=0.003)


def test_two_batches_have_values_without_an_interval() -> None:
    phases = describe(make_batches(2), total_j(2))
    assert phases.joules_per_decode_token == pytest.approx(DECODE_J, rel=0.002)
    assert (phases.joules_per_decode_token_low, phases.phase_interval) == (None, None)
    assert phases.phase_reason == "an interval for prefill needs 3 batches; an interval for decode needs 3 batches"


def test_tokens_decoded_beside_prompts_give_prefill_an_interval_between_two_bounds() -> None:
    """A token beside prompts costs at least as much as a prompt's token, and at most as much as one decoded alone."""
    phases = describe(make_batches(3, beside=80), total_j(3))
    upper_j = PREFILL_W * PREFILL_S / (4800 + 80)
    lower_j = (PREFILL_W * PREFILL_S - 80 * DECODE_J) / 4800
    assert phases.joules_per_prefill_token == pytest.approx((lower_j + upper_j) / 2, rel=0.003)
    assert phases.joules_per_prefill_token_low == pytest.approx(lower_j, rel=0.003)
    assert phases.joules_per_prefill_token_high == pytest.approx(upper_j, rel=0.003)


def test_a_batch_with_a_failed_request_is_left_out() -> None:
    measurement = make_batches(3)
    broken = [
        replace(completion, error="aborted") if completion.row_id == "r/0#1" else completion
        for completion in measurement.completions
    ]
    phases = describe(replace(measurement, completions=broken), total_j(3))
    assert "needs 3 batches" in phases.phase_reason
    all_broken = [replace(completion, error="aborted") for completion in measurement.completions]
    phases = describe(replace(measurement, completions=all_broken), total_j(3))
    assert phases == Phases(phase_reason="no batch ended without a failed request")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps": []}, "this version of the engine does not tell its steps"),
        ({"power": pl.DataFrame(schema=POWER)}, "there is no power trace of the whole window"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, Any], reason: str) -> None:
    assert describe(replace(make_batches(3), **changes), total_j(3)) == Phases(phase_reason=reason)


def test_a_phase_too_short_for_its_sensor_is_named() -> None:
    measurement = make_batches(3)
    # The last prompt is done 0.2 s before the first request ends.
    late = [replace(c, first_token_ns=(c.last_token_ns or 0) - 200_000_000) for c in measurement.completions]
    phases = describe(replace(measurement, completions=late), total_j(3))
    assert phases.joules_per_decode_token is None
    assert "no batch's decode lasts 0.5 s: the longest 0.2 s" in phases.phase_reason
    # Then the tokens that were decoded beside prompts cannot be told from prefill either.
    assert phases.joules_per_prefill_token is None
