"""The order of requests in a window, and windows that `max_window_s` cuts."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runner.analysis.run.intervals import Repeats, compare_with_default
from runner.analysis.window.trial_row import analyse_trial
from runner.execution.worker.trial.rounds import repeat_rounds, shuffle_samples
from runner.spec.request import Request
from runner.timebase import VirtualTime
from tests.execution.trial_contexts import make_requests, open_context


def take(requests: Sequence[Request], request_s: float, **limits: float) -> list[str]:
    """Return the ids of the requests of a window in which they run one by one, each for `request_s`."""
    time_source = VirtualTime()
    taken = []
    for request in repeat_rounds(requests, time_source, **limits):  # type: ignore[arg-type]
        taken.append(request.request_id)
        time_source.sleep(request_s)
    return taken


@pytest.mark.parametrize(
    ("request_s", "num_taken"),
    [
        (0.5, 20),  # two rounds of 5 s reach 10 s
        (1.0, 10),
        (1.5, 10),  # a round of 15 s fits
        (4.0, 5),  # the fifth one starts at 16 s, and at 20 s nothing starts
        (30.0, 1),
    ],
)
def test_no_request_starts_after_the_longest_window(request_s: float, num_taken: int) -> None:
    requests = make_requests(num_requests=10)
    taken = take(requests, request_s, min_window_s=10.0, max_window_s=20.0)
    assert len(taken) == num_taken
    assert taken == [requests[i % 10].request_id for i in range(num_taken)]


def test_a_window_is_cut_within_its_first_or_a_later_round(tmp_path: Path) -> None:
    with open_context(tmp_path) as context:
        requests = make_requests(num_requests=400)
        cut = context.measure(requests, min_window_s=3.0, max_window_s=5.0)
        whole = context.measure(make_requests(num_requests=8), min_window_s=3.0, max_window_s=5.0)
    num_run = len(cut.completions)
    assert cut.num_requests_left_out == 400 - num_run > 0
    assert whole.num_requests_left_out == 0
    row = analyse_trial(cut).row
    assert (row["num_requests"], row["num_requests_left_out"], row["verdicts"]) == (num_run, 400 - num_run, [])
    request_s = max((c.last_token_ns or 0) - (c.queued_ns or 0) for c in cut.completions) * 1e-9
    assert 5.0 < row["duration_s"] <= 5.0 + request_s  # the requests in flight end
    assert row["joules_per_output_token"] == pytest.approx(
        analyse_trial(whole).row["joules_per_output_token"], rel=0.03
    )


def test_static_batches_and_repeated_prompts_hold_no_rounds(tmp_path: Path) -> None:
    with open_context(tmp_path) as context:
        static = context.measure(make_requests(num_requests=8), min_window_s=2.0, static_batches=True)
        repeated = context.measure(
            make_requests(num_requests=2), {"concurrency": 1}, min_window_s=0.0, repeat_each_s=2.0
        )
    assert (static.num_requests_left_out, repeated.num_requests_left_out) == (None, None)


def test_a_shuffled_round_keeps_the_requests_of_a_sample_together() -> None:
    [request] = make_requests(num_requests=1)
    choices = [replace(request, request_id=f"t/{i}/{k}", sample_id=f"t/{i}") for i in range(50) for k in range(4)]
    shuffled = shuffle_samples(choices, "trial")
    assert sorted(r.request_id for r in shuffled) == sorted(r.request_id for r in choices)
    assert [r.sample_id for r in shuffled[::4]] != [r.sample_id for r in choices[::4]]
    for first in range(0, 200, 4):
        assert [r.request_id[-2:] for r in shuffled[first : first + 4]] == ["/0", "/1", "/2", "/3"]
        assert len({r.sample_id for r in shuffled[first : first + 4]}) == 1
    assert shuffle_samples(choices, "trial") == shuffled
    assert shuffle_samples(choices, "other trial") != shuffled


def log_joules_per_token(requests: Sequence[Request], joules_per_prompt_token: float) -> float:
    """Return what a window would cost per output token, where each output token costs 1 J."""
    num_prompt_tokens = sum(request.num_context_tokens for request in requests)
    num_output_tokens = sum(request.max_output_tokens for request in requests)
    return float(np.log(1 + joules_per_prompt_token * num_prompt_tokens / num_output_tokens))


def cover(*, shuffled: bool, num_seeds: int = 300) -> float:
    """Return how often the interval of a change holds the change of whole rounds, where all windows are cut.

    Prompts stand in order of their length, as in the worst file. The default clock reaches 200 of 500 requests, the
    lower clock 80. Three repeats at each, between sentinels; no other noise.
    """
    [request] = make_requests(num_output_tokens=32, num_requests=1)
    rng = random.Random(0)
    lengths = sorted(rng.randint(50, 1500) for _ in range(500))
    requests = [
        replace(request, request_id=f"t/{i}", sample_id=f"t/{i}", num_context_tokens=length)
        for i, length in enumerate(lengths)
    ]
    truth = log_joules_per_token(requests, 0.02) - log_joules_per_token(requests, 0.03)
    num_covered = 0
    for seed in range(num_seeds):

        def measure(name: str, num_reached: int, joules: float, times_s: list[float], seed: int = seed) -> Repeats:
            orders = [shuffle_samples(requests, f"{seed}/{name}/{t}") if shuffled else requests for t in times_s]
            return Repeats(
                time_s=np.array(times_s),
                logs=np.array([[log_joules_per_token(order[:num_reached], joules)] for order in orders]),
                energy_uncertainty=np.zeros(len(times_s)),
                gpu=np.zeros(len(times_s), dtype=np.int64),
            )

        default = measure("default", 200, 0.03, [0.0, 2.0, 4.0, 6.0])
        change = compare_with_default(measure("lower", 80, 0.02, [1.0, 3.0, 5.0]), default, np.array([True]))
        num_covered += abs(change.log_ratio[0] - truth) <= change.half_width[0]
    return num_covered / num_seeds


def test_intervals_cover_what_the_prompts_of_cut_windows_differ_in() -> None:
    """They would not in the file's order: then every repeat has the same prompts, and the scatter shows nothing."""
    assert cover(shuffled=True) == pytest.approx(0.95, abs=0.04)
    assert cover(shuffled=False, num_seeds=1) == 0.0


def test_each_round_of_a_window_has_one_order(tmp_path: Path) -> None:
    requests = shuffle_samples(make_requests(num_requests=5), "t")
    taken = take(requests, 1.0, min_window_s=10.0, max_window_s=60.0)
    assert taken == [request.request_id for request in requests] * 2
    assert set(Counter(taken).values()) == {2}
