"""The energy of prefill and decoding, in virtual time: both methods, compared with the GPU model and each other."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from runner.analysis.run.completed_trials import complete_trials
from runner.analysis.window.trial_row import analyse_trial
from runner.execution.worker.trial.measure import InterruptedTrialError
from runner.execution.worker.trial.rounds import shorten
from runner.inference.simulated.engine import SimulatedEngine
from runner.physics.gpu_model import load_gpu_model
from runner.physics.shape import decode_work, get_shape, prefill_work
from runner.results.sensors import SensorFinding, SensorFindings
from runner.results.tables import TRIALS
from runner.spec.operating_point import OperatingPoint
from tests.execution.trial_contexts import VirtualContext, make_requests, open_context

SHAPE = "mistral-7b"
CONCURRENCY, NUM_PROMPT_TOKENS, NUM_OUTPUT_TOKENS = 32, 1024, 160
LOW_MHZ, UNCAPPED_MHZ = 810, 1200
"""At both, prefill keeps under the power cap; at the default clock it does not."""


@pytest.fixture
def context(tmp_path: Path) -> Iterator[VirtualContext]:
    with open_context(tmp_path, shape=SHAPE) as opened:
        yield opened


def requests() -> Any:
    return make_requests(NUM_PROMPT_TOKENS, NUM_OUTPUT_TOKENS, CONCURRENCY)


def true_joules_per_token(sm_clock_mhz: int | None) -> dict[str, float]:
    """Compute both by the GPU model: prompts in steps of 8192 tokens, and decoding half-way through the answer."""
    gpu, shape, point = load_gpu_model(), get_shape(SHAPE), OperatingPoint(sm_clock_mhz=sm_clock_mhz)
    prefill = gpu.step(shape, prefill_work(8192 // NUM_PROMPT_TOKENS, NUM_PROMPT_TOKENS), point)
    decode = gpu.step(shape, decode_work(CONCURRENCY, NUM_PROMPT_TOKENS + NUM_OUTPUT_TOKENS / 2), point)
    return {
        "prefill": prefill.duration_s * prefill.power_w / 8192,
        "decode": decode.duration_s * decode.power_w / CONCURRENCY,
    }


def measure_batches(context: VirtualContext, sm_clock_mhz: int | None, **options: Any) -> dict[str, Any]:
    identity = {"concurrency": CONCURRENCY, "sm_clock_mhz_requested": sm_clock_mhz}
    options = {"min_window_s": 8.0, "static_batches": True} | options
    return analyse_trial(context.measure(requests(), identity, **options)).row


def measure_lengths(context: VirtualContext, sm_clock_mhz: int | None, num_repeats: int = 1) -> list[dict[str, Any]]:
    """Return the rows of the full-length trials, completed by their paired trials."""
    rows = []
    for repeat in range(num_repeats):
        for role in ("half_length", None, "one_token"):
            identity = {"concurrency": CONCURRENCY, "sm_clock_mhz_requested": sm_clock_mhz, "repeat": repeat}
            identity |= {"trial_id": f"{repeat}/{role}", "phase_role": role}
            measurement = context.measure(shorten(requests(), role), identity, min_window_s=8.0)
            rows.append(analyse_trial(measurement).row)
    frame = pl.DataFrame([{name: row.get(name) for name in TRIALS} for row in rows], schema=TRIALS)
    return [row for row in complete_trials(frame).to_dicts() if row["phase_role"] is None]


# both ways -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sm_clock_mhz", [UNCAPPED_MHZ, LOW_MHZ])
def test_both_ways_find_the_gpus_own_joules(context: VirtualContext, sm_clock_mhz: int | None) -> None:
    truth = true_joules_per_token(sm_clock_mhz)
    batches = measure_batches(context, sm_clock_mhz)
    [lengths] = measure_lengths(context, sm_clock_mhz)
    assert (batches["phase_method"], lengths["phase_method"]) == ("static_batches", "output_lengths")
    assert (batches["phase_interval"], lengths["phase_interval"]) == ("batches", "sensor")
    for row in (batches, lengths):
        assert (row["verdicts"], row["phase_reason"]) == ([], None)
        for name in ("prefill", "decode"):
            assert row[f"joules_per_{name}_token"] == pytest.approx(truth[name], rel=0.02)
        # Prefill and decoding explain the window: no idle joules, no joules twice.
        assert abs(row["phase_residual_fraction"]) < 0.02
    for name in ("prefill", "decode"):
        lows = [row[f"joules_per_{name}_token_low"] for row in (batches, lengths)]
        highs = [row[f"joules_per_{name}_token_high"] for row in (batches, lengths)]
        assert max(lows) < min(highs), f"both ways agree on {name} within their intervals"
        for low, high in zip(lows, highs, strict=True):
            assert (high - low) < 0.08 * truth[name]
    assert batches["joules_per_prefill_token_low"] < truth["prefill"] < batches["joules_per_prefill_token_high"]


def test_under_the_cap_prefill_and_decoding_run_at_clocks_of_their_own_in_every_trial(context: VirtualContext) -> None:
    truth = true_joules_per_token(None)
    [row] = measure_lengths(context, None)
    assert row["prefill_sm_clock_mhz"] < 0.9 * row["decode_sm_clock_mhz"]
    assert (row["phase_reason"], row["phase_interval"]) == (None, "sensor")
    for name in ("prefill", "decode"):
        assert row[f"joules_per_{name}_token"] == pytest.approx(truth[name], rel=0.02)


def test_a_lower_clock_saves_more_in_decoding_than_in_prefill(context: VirtualContext) -> None:
    default, low = measure_batches(context, None), measure_batches(context, LOW_MHZ)
    change = {
        name: low[f"joules_per_{name}_token"] / default[f"joules_per_{name}_token"] for name in ("prefill", "decode")
    }
    assert change["decode"] < change["prefill"] < 1


def test_repeats_give_an_interval_around_their_mean(context: VirtualContext) -> None:
    rows, truth = measure_lengths(context, UNCAPPED_MHZ, num_repeats=3), true_joules_per_token(UNCAPPED_MHZ)
    assert len(rows) == 3
    assert {row["phase_interval"] for row in rows} == {"repeats"}
    for name in ("prefill", "decode"):
        values = [row[f"joules_per_{name}_token"] for row in rows]
        [low] = {row[f"joules_per_{name}_token_low"] for row in rows}
        [high] = {row[f"joules_per_{name}_token_high"] for row in rows}
        assert low < sum(values) / 3 < high
        assert low < truth[name] * 1.005
        assert high > truth[name] * 0.995


def test_log_likelihoods_are_all_prefill(context: VirtualContext) -> None:
    scored = [
        replace(request, kind="loglikelihood", max_output_tokens=0, num_context_tokens=900) for request in requests()
    ]
    row = analyse_trial(context.measure(scored, {"request_kind": "loglikelihood"})).row
    assert (row["phase_method"], row["phase_reason"]) == ("all_prefill", "nothing was decoded")
    assert row["prefill_energy_j"] == row["energy_j"]
    assert row["joules_per_prefill_token"] == pytest.approx(row["joules_per_prompt_token"])
    assert row["joules_per_prefill_token_low"] < row["joules_per_prefill_token"] < row["joules_per_prefill_token_high"]
    assert (row["decode_energy_j"], row["joules_per_decode_token"]) == (None, None)


def test_an_ordinary_window_says_how_its_phases_could_be_had(context: VirtualContext) -> None:
    row = analyse_trial(context.measure(requests())).row
    assert row["phase_reason"] == (
        'prefill and decoding overlap in this window: ask for phases = "static_batches" or "output_lengths"'
    )
    assert (row["phase_method"], row["prefill_energy_j"], row["decode_energy_j"]) == (None, None, None)


def test_the_regression_agrees_where_it_dares(context: VirtualContext) -> None:
    ordinary = analyse_trial(context.measure(requests(), {"concurrency": CONCURRENCY}, min_window_s=8.0)).row
    truth = true_joules_per_token(None)
    for row in (measure_batches(context, None), ordinary):
        for name in ("prefill", "decode"):
            assert row[f"regression_joules_per_{name}_token"] == pytest.approx(truth[name], rel=0.05)
        assert row["regression_reason"] is None


def test_the_regression_refuses_where_prefill_drowns(context: VirtualContext) -> None:
    row = analyse_trial(context.measure(make_requests(64, 640, 16), min_window_s=8.0)).row
    assert row["regression_reason"] == "prefill is 9.1% of the tokens, under 10%"
    assert {value for name, value in row.items() if name.startswith("regression_joules")} == {None}


# windows of static batches -------------------------------------------------------------------------------------------


def test_static_batches_start_together_and_drain(context: VirtualContext) -> None:
    told: list[tuple[int, int]] = []
    measurement = context.measure(
        make_requests(256, 64, num_requests=12),
        {"concurrency": 8},
        min_window_s=4.0,
        static_batches=True,
        on_progress=lambda *counts: told.append(counts),
    )
    edges = measurement.batch_edges_ns
    assert len(edges) > 2
    assert (edges[0][0], edges[-1][1]) == (measurement.start_ns, measurement.end_ns)
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(edges))
    assert (edges[-1][0] - edges[0][0]) * 1e-9 < 4.0 <= (edges[-1][1] - edges[0][0]) * 1e-9
    for start_ns, end_ns in edges:
        batch = [c for c in measurement.completions if start_ns <= c.queued_ns < end_ns]
        assert len(batch) == 8
        assert {c.queued_ns for c in batch} == {start_ns}
        assert max(c.last_token_ns for c in batch) == end_ns
    # The prompts go round, each time under another id.
    ids = [c.row_id for c in measurement.completions]
    assert len(set(ids)) == len(ids) == 8 * len(edges)
    assert ids[:8] == [f"synthetic/{k}#0" for k in range(8)]
    assert set(ids[8:16]) == {f"synthetic/{k}#{k < 4:d}" for k in (8, 9, 10, 11, 0, 1, 2, 3)}
    assert told == sorted(told)
    assert told[-1][0] > len(ids) / 2


def test_short_phases_say_how_short(context: VirtualContext) -> None:
    measurement = context.measure(
        make_requests(64, 192, num_requests=8), {"concurrency": 8}, min_window_s=4.0, static_batches=True
    )
    row = analyse_trial(measurement).row
    assert row["phase_reason"].startswith("no batch's prefill lasts 0.5 s: the longest 0.0")
    assert row["joules_per_prefill_token"] is None
    assert row["joules_per_decode_token"] > 0
    assert (row["prefill_energy_j"], row["phase_residual_fraction"]) == (None, None)
    assert row["decode_energy_j"] == pytest.approx(row["joules_per_decode_token"] * row["num_requests"] * 191)
    shorter = context.measure(make_requests(64, 16, num_requests=8), {"concurrency": 8}, static_batches=True)
    row = analyse_trial(shorter).row
    assert (row["phase_method"], row["prefill_energy_j"], row["decode_energy_j"]) == (None, None, None)
    assert row["joules_per_decode_token"] is None
    assert "prefill" in row["phase_reason"]
    assert "decode" in row["phase_reason"]


def test_a_sensor_that_averages_over_a_second_tells_nothing_of_phases_under_four(tmp_path: Path) -> None:
    with open_context(tmp_path, shape=SHAPE, gpu_request="sim:h200+average-only") as slow:
        row = measure_batches(slow, None, min_window_s=25.0)
    assert row["verdicts"] == []
    for name in ("prefill", "decode"):
        assert f"no batch's {name} lasts 4 s: the longest " in row["phase_reason"]
        assert row[f"joules_per_{name}_token"] is None
        assert row[f"{name}_energy_j"] is None
    assert row["regression_reason"] == "the window holds 13 bins, fewer than 20"


@pytest.mark.parametrize(("bound_s", "shortest"), [(0.02, None), (0.3, "no batch's decode lasts 1.2 s")])
def test_of_readings_that_may_average_over_more_than_their_period_more_is_trimmed_off(
    context: VirtualContext, bound_s: float, shortest: str | None
) -> None:
    absent = SensorFinding(supported=False, reason="not supported")
    bounded = SensorFinding(supported=True, update_period_s=0.02, averaging_window_max_s=bound_s)
    found = SensorFindings(
        gpu_uuid="GPU-0",
        driver_version="1",
        sensors={"samples": bounded, "instant": absent, "average": absent, "counter": absent},
        power_source="samples",
        energy_source="trace",
        choice="for a test",
    )
    measurement = context.measure(requests(), {"concurrency": CONCURRENCY}, min_window_s=8.0, static_batches=True)
    reason = analyse_trial(replace(measurement, sensors=found)).row["phase_reason"]
    assert reason is None if shortest is None else shortest in reason


def test_a_sensor_that_averages_over_a_second_tells_long_phases_apart(tmp_path: Path) -> None:
    gpu, shape, point = load_gpu_model(), get_shape(SHAPE), OperatingPoint(sm_clock_mhz=LOW_MHZ)
    with open_context(tmp_path, shape=SHAPE, gpu_request="sim:h200+average-only") as slow:
        measurement = slow.measure(
            make_requests(1024, 640, 256),
            {"concurrency": 256, "sm_clock_mhz_requested": LOW_MHZ},
            min_window_s=60.0,
            static_batches=True,
        )
    row = analyse_trial(measurement).row
    assert row["phase_method"] == "static_batches", row["phase_reason"]
    decode = gpu.step(shape, decode_work(256, 1024 + 640 // 2), point)
    assert row["joules_per_decode_token"] == pytest.approx(decode.duration_s * decode.power_w / 256, rel=0.02)


def test_a_window_holds_the_three_batches_that_an_interval_needs(context: VirtualContext) -> None:
    row = measure_batches(context, LOW_MHZ, min_window_s=1.0)
    assert row["num_requests"] == 3 * CONCURRENCY
    assert row["joules_per_prefill_token_low"] < row["joules_per_prefill_token"]
    assert row["joules_per_decode_token_high"] > row["joules_per_decode_token"]


def test_fewer_than_three_batches_have_no_interval(context: VirtualContext) -> None:
    whole = measure_batches(context, None, min_window_s=1.0)
    batch_s = whole["duration_s"] / (whole["num_requests"] / CONCURRENCY)
    row = measure_batches(context, None, deadline_s=2.5 * batch_s)
    assert (row["num_requests"], row["num_failed_requests"]) == (3 * CONCURRENCY, CONCURRENCY)
    assert row["joules_per_prefill_token"] > 0
    assert row["phase_reason"] == "an interval for prefill needs 3 batches; an interval for decode needs 3 batches"
    assert row["joules_per_decode_token_low"] is None
    assert row["phase_interval"] is None


def test_decoding_beside_prompts_is_told_from_prefill(context: VirtualContext) -> None:
    """Short steps let early requests decode beside the prompts of late ones. The result does not change."""
    engine = context.context.engine
    assert isinstance(engine, SimulatedEngine)
    engine.max_num_batched_tokens = 2 * NUM_PROMPT_TOKENS + CONCURRENCY
    row = measure_batches(context, None)
    gpu, shape = load_gpu_model(), get_shape(SHAPE)
    step = gpu.step(shape, prefill_work(2, NUM_PROMPT_TOKENS), OperatingPoint())
    truth_j = step.duration_s * step.power_w / (2 * NUM_PROMPT_TOKENS)
    assert row["joules_per_prefill_token"] == pytest.approx(truth_j, rel=0.02)
    assert row["joules_per_prefill_token_low"] < truth_j < row["joules_per_prefill_token_high"]


def test_a_deadline_ends_the_batches(context: VirtualContext) -> None:
    row = measure_batches(context, None, min_window_s=100.0, deadline_s=5.0)
    assert row["duration_s"] < 6.0
    assert row["num_failed_requests"] == CONCURRENCY
    assert row["joules_per_decode_token"] > 0


def test_cancelling_ends_the_batches(context: VirtualContext) -> None:
    end_ns = context.time_source.now_ns() + 6_000_000_000
    with pytest.raises(InterruptedTrialError):
        measure_batches(context, None, min_window_s=100.0, is_interrupted=lambda: context.time_source.now_ns() > end_ns)
    assert (context.time_source.now_ns() - end_ns) * 1e-9 < 4.0


def test_phases_need_steps_and_a_trace(context: VirtualContext) -> None:
    measurement = context.measure(requests(), {"concurrency": CONCURRENCY}, min_window_s=4.0, static_batches=True)
    row = analyse_trial(replace(measurement, steps=[])).row
    assert row["phase_reason"] == row["regression_reason"] == "this version of the engine does not tell its steps"
    blind = replace(measurement, power=measurement.power.with_columns(power_w=pl.lit(None, dtype=pl.Float64)))
    row = analyse_trial(blind).row
    assert row["energy_source"] == "counter"
    assert row["phase_reason"] == row["regression_reason"] == "there is no power trace of the whole window"
    row = analyse_trial(replace(blind, counter_start=None, counter_end=None)).row
    assert row["phase_reason"] == "the energy of the window is unknown"
