"""What an input costs, on a terminal: which correlations are shown, and what is said where there are none."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from runner.analysis.inputs.correlation import CORRELATIONS
from runner.analysis.inputs.prompt_costs import FEATURES, TARGETS
from runner.analysis.study import Study, study_trials
from tests.analysis.trial_rows import frame, trial

MINUS = "\N{MINUS SIGN}"
Draw = Callable[..., str]
MIDDLING = {"num_prompts": 200, "partial": 0.1, "partial_low": -0.1, "partial_high": 0.3, "partial_q_value": 0.6}


def table(changes: dict[tuple[str, str], dict[str, Any]] | None = None, **common: Any) -> pl.DataFrame:
    """Every feature beside every target over all models, none of them remarkable but for `changes`."""
    rows = [
        {"scope": "all", "target": target, "feature": feature}
        | MIDDLING
        | common
        | (changes or {}).get((target, feature), {})
        for target in TARGETS
        for feature in FEATURES
    ]
    return pl.DataFrame(rows, schema=CORRELATIONS)


@pytest.fixture
def draw(draw_report: Callable[[Study, int], str]) -> Draw:
    """Draw the section on inputs of a run with these correlations; nothing where it has none."""

    def draw_inputs(correlations: pl.DataFrame, width: int = 100, *, simulated: bool = False) -> str:
        study = study_trials(frame(trial(None, 1.0, simulated=simulated)))
        report = draw_report(replace(study, correlations=correlations), width)
        return report.partition("What an input costs")[2].partition("Every operating point")[0]

    return draw_inputs


def holds(partial: float, q_value: float = 0.01) -> dict[str, Any]:
    return {
        "partial": partial, "partial_low": partial - 0.05, "partial_high": partial + 0.05, "partial_q_value": q_value
    }  # fmt: skip


def test_what_holds_is_shown_strongest_first_with_interval_and_q(draw: Draw) -> None:
    changes = {
        ("energy_j", "mtld"): holds(0.31, 0.02),
        ("energy_j", "num_output_tokens"): holds(0.94, 0.0001),
        ("energy_j", "prompt_surprise_nats"): holds(-0.52),
        ("energy_j", "digit_fraction"): holds(0.7, 0.05),  # strong by chance, as far as can be told
        ("score", "num_words"): holds(-0.4),
    }
    lines = [line.split() for line in draw(table(changes)).splitlines()]
    assert [line for line in lines if line and line[0] in ("energy", "score")] == [
        ["energy", "num_output_tokens", "+0.94", "+0.89", "to", "+0.99", "<0.001", "200"],
        ["energy", "prompt_surprise_nats", f"{MINUS}0.52", f"{MINUS}0.57", "to", f"{MINUS}0.47", "0.010", "200"],
        ["energy", "mtld", "+0.31", "+0.26", "to", "+0.36", "0.020", "200"],
        ["score", "num_words", f"{MINUS}0.40", f"{MINUS}0.45", "to", f"{MINUS}0.35", "0.010", "200"],
    ]
    text = " ".join(draw(table(changes)).split())
    assert f"latency: none of {len(FEATURES)} features correlates beyond the lengths (q < 0.05, 200 prompts)" in text


def test_of_many_the_five_strongest_of_each_target_are_shown(draw: Draw) -> None:
    changes = {("energy_j", feature): holds(0.9 - 0.05 * k) for k, feature in enumerate(FEATURES[:8])}
    text = draw(table(changes))
    assert [feature for feature in FEATURES if f" {feature} " in text] == list(FEATURES[:5])
    assert "3 more: sweep report --json" in " ".join(text.split())


def test_an_unknown_target_says_why(draw: Draw) -> None:
    changes = {
        ("score", feature): dict.fromkeys(MIDDLING) | {"reason": "random prompts have no right answer"}
        for feature in FEATURES
    }
    text = draw(table(changes))
    assert "score: no correlation: random prompts have no right answer" in text
    assert text.count("random prompts") == 1


def test_an_unknown_feature_says_why_once(draw: Draw) -> None:
    reason = "entities were not counted"
    changes = {
        (target, "entities_per_100_words"): dict.fromkeys(MIDDLING) | {"reason": reason} for target in TARGETS
    } | {(target, "mtld"): {"partial": None, "partial_reason": "the lengths tell mtld exactly"} for target in TARGETS}
    text = draw(table(changes))
    assert f"not compared: entities_per_100_words ({reason})" in text
    assert "not compared: mtld (the lengths tell mtld exactly)" in text
    assert text.count(reason) == 1


def test_a_run_that_measured_no_prompt_has_no_such_section(draw: Draw) -> None:
    assert draw(pl.DataFrame(schema=CORRELATIONS)).strip() == ""


def test_a_simulated_gpu_is_said_to_know_lengths_alone(draw: Draw) -> None:
    assert "by construction" in draw(table(), simulated=True)
    assert "by construction" not in draw(table())


def test_on_a_narrow_terminal_columns_give_way_and_numbers_stay_whole(draw: Draw) -> None:
    text = draw(table({("energy_j", "num_output_tokens"): holds(0.94)}), width=44)
    assert max(map(len, text.splitlines())) <= 44
    assert "+0.94" in text
    assert "0.010" in text
    assert "+0.89" not in text


def test_features_that_are_unknown_for_the_same_reason_share_a_line(draw: Draw) -> None:
    names = ("num_characters", "num_words", "mtld")
    unknown = {
        (target, name): {"partial": None, "partial_q_value": None, "reason": f"{name} is not known"}
        for target in TARGETS
        for name in names
    }
    ordered = [name for name in FEATURES if name in names]
    assert f"not compared: {', '.join(ordered)} (not known)" in draw(table(unknown))
