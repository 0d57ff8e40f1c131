"""A window's energy handed out, on windows whose shares follow from their tokens.

Without a shape every token costs the same and nothing is fixed, so that shares can be computed on paper. Shares by a
shape, and measured prompts against the truth, are in tests/execution/worker/test_request_energy.py.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from runner.analysis.energy.attribution import Attribution, attribute_energy
from runner.spec.request import Completion, Step
from tests.analysis.measurements import at, in_flight, make_completion, make_measurement, make_power


def make_step(end_s: float, num_prefill_tokens: int, num_decode_tokens: int, num_running: int = 1) -> Step:
    return Step(
        time_ns=at(end_s),
        num_prefill_tokens=num_prefill_tokens,
        num_decode_tokens=num_decode_tokens,
        num_running=num_running,
    )


def attribute(
    completions: Sequence[Completion], end_s: float, *, concurrency: int = 2, **changes: Any
) -> tuple[Attribution, float]:
    """A window at 500 W, attributed; and its energy, which the parts must sum to."""
    energy_j = 500.0 * end_s
    measurement = make_measurement(completions, end_s, identity=in_flight(concurrency), **changes)
    attribution = attribute_energy(measurement, energy_j)
    known = sum(share_j for share_j in attribution.energy_j if share_j is not None)
    assert known + attribution.unattributed_j == pytest.approx(energy_j)
    return attribution, energy_j


def test_a_step_is_split_by_the_tokens_of_its_requests() -> None:
    """One step of 1 s: 75 prompt tokens of one request, 25 of another."""
    long = make_completion("a", 0.0, 1.0, 1.0, num_prompt_tokens=75, num_output_tokens=1)
    short = make_completion("b", 0.0, 1.0, 1.0, num_prompt_tokens=25, num_output_tokens=1)
    attribution, _ = attribute([long, short], 1.0, steps=[make_step(1.0, 100, 0, 2)])
    assert attribution.energy_j == pytest.approx([375.0, 125.0])
    assert attribution.method == ["attributed", "attributed"]
    assert attribution.unattributed_j == pytest.approx(0.0, abs=1e-9)


def test_each_steps_energy_goes_to_the_requests_in_it() -> None:
    """0.5 s of one prompt, 0.3 s in which it decodes beside another prompt of 3 tokens, 0.2 s of both decoding."""
    first = make_completion("a", 0.0, 0.5, 1.0, num_prompt_tokens=10, num_output_tokens=3)
    second = make_completion("b", 0.0, 0.8, 1.0, num_prompt_tokens=3, num_output_tokens=2)
    steps = [make_step(0.5, 10, 0), make_step(0.8, 3, 1, 2), make_step(1.0, 0, 2, 2)]
    attribution, _ = attribute([first, second], 1.0, steps=steps)
    assert attribution.energy_j == pytest.approx([250.0 + 150.0 / 4 + 50.0, 150.0 * 3 / 4 + 50.0])


def test_time_without_a_request_in_flight_belongs_to_none() -> None:
    request = make_completion("a", 1.0, 1.5, 2.0, num_prompt_tokens=10, num_output_tokens=2)
    attribution, _ = attribute([request], 4.0, steps=[make_step(1.5, 10, 0), make_step(2.0, 0, 1)])
    assert attribution.energy_j == pytest.approx([500.0])
    assert attribution.unattributed_j == pytest.approx(1500.0)


def test_what_failed_requests_cost_belongs_to_none() -> None:
    sound = make_completion("a", 0.0, 1.0, 1.0, num_prompt_tokens=50, num_output_tokens=1)
    failed = make_completion("b", 0.0, 1.0, 1.0, num_prompt_tokens=50, num_output_tokens=1, error="aborted")
    attribution, _ = attribute([failed, sound], 1.0, steps=[make_step(1.0, 100, 0, 2)])
    assert attribution.energy_j == [None, pytest.approx(250.0)]
    assert attribution.method == [None, "attributed"]
    assert attribution.unattributed_j == pytest.approx(250.0)


def repeat_alone(name: str, start_s: float, num: int, **changes: Any) -> list[Completion]:
    """A prompt repeated without a pause, half a second each."""
    return [
        make_completion(name, start_s + 0.5 * k, start_s + 0.5 * k + 0.1, start_s + 0.5 * (k + 1), round=k, **changes)
        for k in range(num)
    ]


def steps_alone(num: int) -> list[Step]:
    """The steps of repetitions: a prompt, then ten tokens in one step."""
    return [step for k in range(num) for step in (make_step(0.5 * k + 0.1, 100, 0), make_step(0.5 * (k + 1), 0, 10))]


def test_a_prompt_repeated_alone_for_the_shortest_window_is_measured() -> None:
    completions = [*repeat_alone("a", 0.0, 4), *repeat_alone("b", 2.0, 3)]
    attribution, _ = attribute(completions, 3.5, concurrency=1, steps=steps_alone(7))
    assert attribution.method == ["measured"] * 4 + ["attributed"] * 3  # 2 s are needed, and the second took 1.5 s
    assert attribution.energy_j[:4] == pytest.approx([250.0] * 4)


def test_a_prompt_beside_others_or_from_the_cache_is_not_measured() -> None:
    completions = repeat_alone("a", 0.0, 4)
    assert set(attribute(completions, 2.0, concurrency=2, steps=steps_alone(4))[0].method) == {"attributed"}
    cached = [*completions[:1], *repeat_alone("a", 0.5, 3, num_cached_tokens=64)]
    assert set(attribute(cached, 2.0, concurrency=1, steps=steps_alone(4))[0].method) == {"attributed"}


@pytest.mark.parametrize(
    ("power", "energy_j"),
    [
        (make_power(500.0, 2.0), None),
        (make_power(None, 2.0), 1000.0),
        (make_power(500.0, 2.0).filter(pl.col("time_ns") < at(1.0)), 1000.0),
    ],
    ids=["no energy", "no trace", "half a trace"],
)
def test_without_an_energy_or_a_trace_nothing_is_handed_out(power: pl.DataFrame, energy_j: float | None) -> None:
    measurement = make_measurement(repeat_alone("a", 0.0, 4), 2.0, power=power, identity=in_flight(1))
    attribution = attribute_energy(measurement, energy_j)
    assert attribution.energy_j == attribution.method == [None] * 4
    assert attribution.unattributed_j is None
