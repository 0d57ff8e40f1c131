"""What the numbers of a block say in a sentence."""

from typing import Any

import pytest

from runner.analysis.run.summary import summarise_operating_points
from runner.display.text.findings import describe_block, describe_quality
from tests.display.trials import frame, trial

MINUS = "\N{MINUS SIGN}"


def sentence(*rows: dict[str, Any]) -> str:
    return describe_block(summarise_operating_points(frame(*rows)).to_dicts())


def test_sentence_states_energy_time_and_quality():
    rows = [
        trial(None, 0.52, 1.0, quality=0.62),
        trial(990, 0.40, 1.04, quality=0.61),
        trial(None, 0.52, 1.0, quality=0.62),
    ]
    assert sentence(*rows) == (
        "tiny_qa on small, 4 in flight: least energy at 990 MHz: 0.400 J/token, 23.1 ± 0.0 % less than the default "
        "clock, 4.0 ± 0.0 % slower, quality unchanged within its error."
    )


def test_sentence_says_that_one_trial_each_shows_no_spread():
    text = sentence(trial(None, 0.52, 1.0), trial(990, 0.40, 1.04))
    assert "23.1 % less than the default clock, 4.0 % slower" in text
    assert "The saving has no interval: too few trials on one GPU" in text


@pytest.mark.parametrize(("saving", "is_one"), [(0.97, False), (0.80, True)])
def test_sentence_does_not_claim_a_saving_inside_the_error(saving, is_one):
    noise = (1.05, 0.95, 1.02)
    rows = [
        trial(clock, 0.5 * factor * (1.0 if clock is None else saving), 1.0 * factor)
        for factors in zip(noise, reversed(noise), strict=True)
        for clock, factor in zip((None, 1500), factors, strict=True)
    ]
    text = sentence(*rows)
    assert ("% less than the default clock" in text) == is_one
    assert (f"no different from the default clock within the error ({MINUS}" in text) == (not is_one)
    assert "as fast" in text


def test_sentence_names_a_default_clock_on_another_gpu():
    rows = [trial(None, 0.5, 1.0), trial(None, 0.5, 1.0), trial(990, 0.4, 1.0, gpu_uuids=["SIM-1"])]
    text = sentence(*rows)
    assert "20.0 ± 4.0 % less" in text  # 5 % of 0.8
    assert "The default clock ran on another GPU" in text


def test_sentence_when_the_default_is_best_alone_or_missing():
    assert "least energy at the default clock: 0.500 J/token; no other" in sentence(
        trial(None, 0.5, 1.0), trial(990, 0.6, 1.2)
    )
    assert "0.500 J/token at the default clock; no other operating point was measured" in sentence(
        trial(None, 0.5, 1.0)
    )
    assert "no default-clock trial" in sentence(trial(750, 0.5, 1.0), trial(990, 0.6, 1.2))
    assert "so there is no result" in sentence(trial(None, 0.5, 1.0, verdicts=["trace_gap"]))
    unsound = trial(None, 0.5, 1.0, verdicts=["trace_gap"])
    assert "do not trust the comparison" in sentence(unsound, trial(990, 0.4, 1.0), trial(1500, 0.45, 1.0))
    assert "0.400 J/token at 990 MHz. No other operating point has a sound trial to" in sentence(
        unsound, trial(990, 0.4, 1.0)
    )


def test_time_falls_back_to_throughput():
    rows = [trial(clock, joules, 1.0, latency_s_p50=None, requests_per_s=rate)
            for clock, joules, rate in ((None, 0.5, 5.0), (990, 0.4, 4.0))]  # fmt: skip
    assert "25.0 % slower" in sentence(*rows)


@pytest.mark.parametrize(
    ("difference", "stderr", "higher", "text"),
    [
        (0.0, 0.03, True, "quality the same"),
        (-0.02, 0.03, True, "quality unchanged within its error"),
        (-0.05, 0.03, True, f"quality worse ({MINUS}0.050 ± 0.030)"),
        (-0.05, 0.03, False, f"quality better ({MINUS}0.050 ± 0.030)"),
        (0.05, None, True, "quality +0.050 (its error is not known)"),
        (None, None, None, "quality not known (no weights)"),
    ],
)
def test_quality_is_judged_by_its_error(difference, stderr, higher, text):
    point = {
        "quality_difference": difference,
        "quality_difference_stderr": stderr,
        "quality_higher_is_better": higher,
        "quality_reason": "no weights",
    }
    assert describe_quality(point) == text
