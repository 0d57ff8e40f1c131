"""The energy of each request, in virtual time, compared with the truth for single prompts, else with a slow count."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from runner.analysis.energy.attribution import Attribution, attribute_energy
from runner.analysis.energy.trace import integrate_power
from runner.execution.worker.trial.rounds import repeat_rounds
from runner.inference.engine import Sampling
from runner.inference.simulated.engine import SimulatedEngine
from runner.physics.gpu_model import load_gpu_model
from runner.results.measurement import Measurement
from runner.spec.load import ClosedLoop
from runner.timebase import VirtualTime
from tests.execution.trial_contexts import VirtualContext, make_requests, open_context


@pytest.fixture
def context(tmp_path: Path) -> Iterator[VirtualContext]:
    with open_context(tmp_path) as opened:
        yield opened


def window_energy_j(measurement: Measurement) -> float:
    return integrate_power(measurement.power, measurement.start_ns, measurement.end_ns)


def attribute(measurement: Measurement) -> Attribution:
    return attribute_energy(measurement, window_energy_j(measurement))


def total_j(attribution: Attribution) -> float:
    return sum(energy_j or 0.0 for energy_j in attribution.energy_j) + attribution.unattributed_j


# alone on the GPU --------------------------------------------------------------------------------------------------


def test_a_prompt_repeated_alone_has_the_energy_that_the_gpu_spent_on_it(context: VirtualContext) -> None:
    requests = [*make_requests(300, 40, num_requests=2), *make_requests(3000, 16, num_requests=2)]
    requests = [replace(request, request_id=f"p/{k}") for k, request in enumerate(requests)]
    # Of a prefill of 10 ms a sensor that looks each 20 ms sees every second one: 5 s hold enough of them for 1 %.
    measurement = context.measure(requests, {"concurrency": 1}, min_window_s=0.0, repeat_each_s=5.0)
    attribution = attribute(measurement)
    assert set(attribution.method) == {"measured"}
    pairs_in_order = list(zip(measurement.completions, attribution.energy_j, strict=True))
    prompts = {}
    for prompt, pairs in groupby(pairs_in_order, key=lambda pair: pair[0].request_id):
        assert prompt not in prompts, "the repetitions of a prompt stand together"
        completions, energies_j = zip(*pairs, strict=True)
        assert [c.row_id for c in completions] == [f"{prompt}#{k}" for k in range(len(completions))]
        start_ns, end_ns = completions[0].queued_ns, completions[-1].last_token_ns
        assert (end_ns - start_ns) * 1e-9 >= 5.0
        truth_j = context.exact_energy_j(start_ns, end_ns) / len(completions)
        assert energies_j == pytest.approx([truth_j] * len(completions), rel=0.01)
        prompts[prompt] = energies_j[0]
    # 40 tokens after 300 cost more than 16 after 3000: decoding is dear, and prompts of one length cost the same.
    assert prompts["p/0"] == pytest.approx(prompts["p/1"], rel=0.01)
    assert prompts["p/2"] == pytest.approx(prompts["p/3"], rel=0.01)
    assert total_j(attribution) == pytest.approx(window_energy_j(measurement), rel=1e-9)


def test_repeated_prompts_go_round_again_for_a_longer_window(context: VirtualContext) -> None:
    measurement = context.measure(
        make_requests(64, 32, num_requests=3), {"concurrency": 1}, min_window_s=8.0, repeat_each_s=2.0
    )
    names = [completion.sample_id for completion in measurement.completions]
    assert [name for name, _ in groupby(names)] == 2 * ["synthetic/0", "synthetic/1", "synthetic/2"]
    assert set(Counter(c.row_id for c in measurement.completions).values()) == {1}


def test_a_caller_who_is_slow_to_hand_in_a_prompt_still_measures_it() -> None:
    """On a busy machine, time passes between taking a request and the start that the engine stamps."""
    time_source = VirtualTime()
    spans_s = []
    for _, repetitions in groupby(
        repeat_rounds(make_requests(num_requests=3), time_source, min_window_s=0.0, repeat_each_s=2.0)
    ):
        stamps_ns = []
        for _ in repetitions:
            time_source.sleep(0.07)
            stamps_ns.append(time_source.now_ns())
            time_source.sleep(0.05)
            stamps_ns.append(time_source.now_ns())
            time_source.sleep(0.005)
        spans_s.append((stamps_ns[-1] - stamps_ns[0]) * 1e-9)
    assert len(spans_s) == 3
    assert min(spans_s) >= 2.0


def test_a_prompt_alone_for_less_than_two_seconds_is_attributed_all_that_was_spent_meanwhile(
    context: VirtualContext,
) -> None:
    measurement = context.measure(make_requests(32, 200, num_requests=4), {"concurrency": 1})
    attribution = attribute(measurement)
    assert set(attribution.method) == {"attributed"}
    for completion, energy_j in zip(measurement.completions, attribution.energy_j, strict=True):
        truth_j = context.exact_energy_j(completion.queued_ns, completion.last_token_ns)
        # An edge is known to one interval of samples, 20 ms, in which power may change by 500 W.
        assert energy_j == pytest.approx(truth_j, abs=0.02 * 500)


def test_a_prompt_answered_from_a_cache_is_not_measured(context: VirtualContext) -> None:
    measurement = context.measure(
        make_requests(300, 40, num_requests=1), {"concurrency": 1}, min_window_s=0.0, repeat_each_s=2.0
    )
    cached = [replace(c, num_cached_tokens=288 if k else 0) for k, c in enumerate(measurement.completions)]
    assert set(attribute(replace(measurement, completions=cached)).method) == {"attributed"}


def test_with_company_nothing_is_measured(context: VirtualContext) -> None:
    measurement = context.measure(make_requests(300, 40, num_requests=1), {"concurrency": 2}, min_window_s=5.0)
    assert set(attribute(measurement).method) == {"attributed"}


# in company ----------------------------------------------------------------------------------------------------------


def count_slowly(measurement: Measurement, context: VirtualContext) -> dict[str, float]:
    """Apply the rule of docs/measurement.md to every step. Returns: energy in J by row id."""
    gpu, shape = load_gpu_model(), context.context.engine.shape
    flop_s, byte_s = 1 / gpu.flops_per_s, 1 / gpu.bytes_per_s
    weights = (shape.num_layer_parameters + shape.num_head_parameters) * shape.bytes_per_weight
    fixed_s = weights * byte_s + gpu.host_s_per_step + gpu.host_s_per_layer * shape.num_layers
    attended_flops = 4 * shape.num_layers * shape.num_attention_heads * shape.head_size
    waiting = sorted(measurement.completions, key=lambda c: (c.queued_ns, int(c.request_id[10:])))
    computed = dict.fromkeys((c.row_id for c in waiting), 0)
    energies_j = dict.fromkeys(computed, 0.0)
    start_ns = measurement.start_ns

    def seconds_of(tokens: int, before: int, rows: int) -> float:
        flops = 2 * shape.num_layer_parameters * tokens + 2 * shape.num_head_parameters * rows
        flops += attended_flops * (tokens * before + tokens * (tokens + 1) / 2)
        return flops * flop_s + shape.kv_bytes_per_token * (before + tokens) * byte_s

    for step in measurement.steps:
        own_s: dict[str, float] = {}

        left = step.num_prefill_tokens
        for completion in waiting:
            before = computed[completion.row_id]
            tokens = max(min(completion.num_prompt_tokens - before, left), 0)
            if tokens:
                left -= tokens
                computed[completion.row_id] += tokens
                is_whole = before + tokens == completion.num_prompt_tokens
                own_s[completion.row_id] = seconds_of(tokens, before, is_whole)
        for completion in waiting:
            if completion.first_token_ns < step.time_ns <= completion.last_token_ns:
                before = computed[completion.row_id]
                computed[completion.row_id] += 1
                own_s[completion.row_id] = seconds_of(1, before, 1) + gpu.host_s_per_decode_token
        energy_j = integrate_power(measurement.power, start_ns, step.time_ns)
        start_ns = step.time_ns
        for row_id, seconds in own_s.items():
            energies_j[row_id] += energy_j * (seconds + fixed_s / len(own_s)) / (fixed_s + sum(own_s.values()))
    return energies_j


def test_attribution_is_the_rule_applied_to_every_step(context: VirtualContext) -> None:
    engine = context.context.engine
    assert isinstance(engine, SimulatedEngine)
    engine.max_num_batched_tokens = 500  # prompts are cut into pieces, and share steps with what decodes
    requests = make_requests(130, 24, num_requests=20) + make_requests(1300, 6, num_requests=10)
    requests = [replace(request, request_id=f"synthetic/{k}") for k, request in enumerate(requests)]
    measurement = context.measure(requests, {"concurrency": 7}, min_window_s=0.0)
    expected = count_slowly(measurement, context)
    attribution = attribute(measurement)
    found = {c.row_id: j for c, j in zip(measurement.completions, attribution.energy_j, strict=True)}
    assert found == pytest.approx(expected, rel=1e-3)  # decoding attends to its own token too, a 1e-4 of a step here
    assert total_j(attribution) == pytest.approx(window_energy_j(measurement), rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_parts_sum_to_the_window_of_any_load(context: VirtualContext, seed: int) -> None:
    rng = random.Random(seed)
    mixed = [
        request
        for _ in range(rng.randint(1, 4))
        for request in make_requests(rng.randint(1, 2000), rng.randint(1, 120), num_requests=rng.randint(1, 12))
    ]
    requests = [replace(request, request_id=f"synthetic/{k}") for k, request in enumerate(mixed)]
    measurement = context.measure(
        requests,
        {"concurrency": rng.choice([1, 2, 5, 16])},
        min_window_s=rng.uniform(0.0, 5.0),
        deadline_s=rng.choice([1.5, 600.0]),  # at which what is in flight fails
    )
    attribution = attribute(measurement)
    assert total_j(attribution) == pytest.approx(window_energy_j(measurement), rel=1e-9)
    assert attribution.unattributed_j >= 0.0
    for completion, energy_j in zip(measurement.completions, attribution.energy_j, strict=True):
        assert (energy_j is None) == (completion.error is not None)
        assert energy_j is None or energy_j > 0.0


@pytest.mark.parametrize("missing", [{}, {"shape": None}, {"steps": []}, {"shape": None, "steps": []}])
def test_parts_sum_to_the_window_whatever_is_known(context: VirtualContext, missing: dict[str, object]) -> None:
    measurement = replace(context.measure(make_requests(900, 48, num_requests=30), {"concurrency": 12}), **missing)
    attribution = attribute(measurement)
    energy_j = window_energy_j(measurement)
    assert total_j(attribution) == pytest.approx(energy_j, rel=1e-9)
    assert set(attribution.method) == {"attributed"}
    assert min(attribution.energy_j) > 0
    assert 0 <= attribution.unattributed_j < 0.01 * energy_j


def test_longer_prompts_and_longer_answers_are_dearer(context: VirtualContext) -> None:
    requests = [*make_requests(2000, 8, num_requests=4), *make_requests(64, 8, num_requests=4)]
    requests += make_requests(64, 64, num_requests=4)
    requests = [replace(request, request_id=f"p/{k}") for k, request in enumerate(requests)]
    measurement = context.measure(requests, {"concurrency": 12}, min_window_s=0.0)
    attribution = attribute(measurement)
    energies_j = {c.row_id: j for c, j in zip(measurement.completions, attribution.energy_j, strict=True)}
    long_prompts, short, long_answers = ([energies_j[f"p/{k}#0"] for k in range(n, n + 4)] for n in (0, 4, 8))
    assert min(long_prompts) > 3 * max(short)
    assert min(long_answers) > 3 * max(short)


def test_joules_with_nobody_in_flight_and_of_failed_requests_are_kept_apart(context: VirtualContext) -> None:
    measurement = context.measure(
        make_requests(600, 128, num_requests=64), {"concurrency": 8}, min_window_s=100.0, deadline_s=4.0
    )
    attribution = attribute(measurement)
    failed = [c.error is not None for c in measurement.completions]
    assert sum(failed) == 8
    assert [energy_j is None for energy_j in attribution.energy_j] == failed
    assert [method is None for method in attribution.method] == failed
    assert total_j(attribution) == pytest.approx(window_energy_j(measurement), rel=1e-9)
    # From the last good end on, everything was spent on the eight that failed.
    last_ns = max(c.last_token_ns for c in measurement.completions if c.error is None)
    lost_j = integrate_power(measurement.power, last_ns, measurement.end_ns)
    assert lost_j > 0.02 * window_energy_j(measurement)
    assert attribution.unattributed_j == pytest.approx(lost_j, rel=1e-6)


def test_pauses_between_requests_belong_to_nobody(context: VirtualContext) -> None:
    template = context.measure(make_requests(64, 16, num_requests=8))
    requests = make_requests(64, 128, num_requests=8)
    context.time_source.sleep(0.1)
    first = context.context.engine.run(iter(requests), ClosedLoop(concurrency=8), Sampling())
    context.time_source.sleep(0.5)
    second = context.context.engine.run(iter(requests), ClosedLoop(concurrency=8), Sampling())
    context.context.sampler.wait_covered(second.end_ns)
    measurement = replace(
        template,
        start_ns=first.start_ns,
        end_ns=second.end_ns,
        completions=first.completions + second.completions,
        steps=first.steps + second.steps,
        power=context.context.sampler.take(),
    )
    attribution = attribute(measurement)
    idle_j = integrate_power(measurement.power, first.end_ns, second.start_ns)
    assert idle_j > 0.05 * window_energy_j(measurement)
    assert attribution.unattributed_j == pytest.approx(idle_j, rel=1e-6)
    assert total_j(attribution) == pytest.approx(window_energy_j(measurement), rel=1e-9)


def test_without_a_trace_no_request_has_an_energy(context: VirtualContext) -> None:
    measurement = context.measure(make_requests(64, 16, num_requests=8))
    blind = replace(measurement, power=measurement.power.clear())
    attribution = attribute_energy(blind, 1000.0)
    assert set(attribution.energy_j) == set(attribution.method) == {None}
    assert attribution.unattributed_j is None
    assert attribute_energy(measurement, None).unattributed_j is None


def test_parts_are_scaled_to_the_energy_that_the_row_states(context: VirtualContext) -> None:
    measurement = context.measure(make_requests(64, 16, num_requests=8))
    energy_j = 1.01 * window_energy_j(measurement)
    assert total_j(attribute_energy(measurement, energy_j)) == pytest.approx(energy_j, rel=1e-9)
