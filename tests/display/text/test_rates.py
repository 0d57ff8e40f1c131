"""Request rates in words, from made-up rows."""

from typing import Any

from runner.display.text.rates import describe_attainment, describe_choice, describe_following, describe_saving

RATES: list[dict[str, Any]] = [
    {"request_rate_per_s_requested": 1.0, "burstiness": 1.0},
    {"request_rate_per_s_requested": 35.0, "burstiness": 1.0},
]
FOLLOWING: dict[str, Any] = {
    "task": "qa",
    "model": "m",
    "sm_clock_mhz_requested": 1215,
    "mem_clock_mhz_requested": None,
    "power_limit_w_requested": None,
    "clock_lock_requested": None,
    "is_default": False,
    "static_change": -0.29,
    "following_change": -0.34,
    "following_against_static": -0.072,
    "reason": None,
}
CHOICE: dict[str, Any] = FOLLOWING | {"change": -0.3, "change_low": -0.32, "change_high": -0.28}


def test_one_clock_for_all_rates_comes_first_then_what_following_adds() -> None:
    assert describe_following(FOLLOWING, RATES) == (
        "qa on m, 1 to 35 requests/s: set 1215 MHz for all rates: −29.0 % energy. Following the load with the best "
        "clock at each rate saves 7.2 % more."
    )


def test_a_ceiling_and_the_default_clock_are_named() -> None:
    ceiling = describe_following(FOLLOWING | {"clock_lock_requested": "ceiling"}, RATES)
    assert "set at most 1215 MHz for all rates" in ceiling
    default = describe_following(FOLLOWING | {"is_default": True, "following_against_static": 0.0}, RATES)
    assert "keep the default clock for all rates. Following the load" in default
    assert default.endswith("saves nothing more.")


def test_without_one_clock_for_all_rates_the_reason_is_said() -> None:
    sentence = describe_following(FOLLOWING | {"static_change": None, "reason": "no point keeps the SLO"}, RATES)
    assert "there is no one operating point to set, since no point keeps the SLO" in sentence
    assert "following the load changes the energy by −34.0 %" in sentence


def test_a_choice_its_saving_and_its_attainment() -> None:
    assert describe_choice(CHOICE) == "1215 MHz"
    assert describe_saving(CHOICE) == "−30.0 ±2.0"
    assert describe_saving(CHOICE | {"is_default": True}) == "base"
    assert (describe_choice(CHOICE | {"reason": "none"}), describe_saving(CHOICE | {"reason": "none"})) == ("–", "–")
    assert [describe_attainment(share) for share in (1.0, 0.99999, 0.985, None)] == ["100", "99.9", "98.5", "–"]
