"""The operating point of least energy at each request rate, and what following the load saves, from made-up rows."""

from typing import Any

import polars as pl
import pytest

from runner.analysis.advice.limits import NO_LIMITS, parse_limits
from runner.analysis.advice.rates import FOLLOWING, RATES, choose_by_rate, follow_load
from runner.analysis.run.operating_points import OPERATING_POINTS

LIMITS = NO_LIMITS


def point(rate_per_s: float, clock_mhz: int | None, power_w: float, **changes: Any) -> dict[str, Any]:
    """An operating point at a rate: all its requests are good unless `attained` says otherwise."""
    attained = changes.pop("attained", 1.0)
    return (
        dict.fromkeys(OPERATING_POINTS)
        | {
            "block_id": f"b{rate_per_s}",
            "model": "m",
            "task": "qa",
            "request_kind": "generate",
            "request_rate_per_s_requested": rate_per_s,
            "burstiness": 1.0,
            "gpu_name": "gpu",
            "simulated": True,
            "sm_clock_mhz_requested": clock_mhz,
            "is_default": clock_mhz is None,
            "is_sound": True,
            "default_is_sound": True,
            "verdicts": [],
            "mean_power_w": power_w,
            "joules_per_good_request": power_w / rate_per_s / attained,
            "joules_per_good_request_change": -0.1,
            "joules_per_good_request_chosen_low": -0.12,
            "joules_per_good_request_chosen_high": -0.08,
            "slo_required_fraction": 0.99,
            "slo_attainment_fraction": attained,
            "slo_attainment_fraction_low": attained,
        }
        | changes
    )


# At 1/s the lowest clock needs least. At 10/s it breaks the SLO, so that the middle one is best.
POINTS = [
    point(1.0, None, 300.0),
    point(1.0, 1200, 240.0),
    point(1.0, 800, 200.0),
    point(10.0, None, 600.0),
    point(10.0, 1200, 450.0),
    point(10.0, 800, 350.0, attained=0.9),
]


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=OPERATING_POINTS)


def test_each_rate_has_the_clock_of_least_energy_that_keeps_the_slo() -> None:
    rates = choose_by_rate(frame(POINTS), LIMITS)
    assert dict(rates.schema) == RATES
    assert rates["request_rate_per_s_requested"].to_list() == [1.0, 10.0]
    assert rates["sm_clock_mhz_requested"].to_list() == [800, 1200]
    assert rates["joules_per_good_request"].to_list() == [200.0, 45.0]
    assert rates["default_joules_per_good_request"].to_list() == [300.0, 60.0]
    assert rates["num_compared"].to_list() == [2, 1]
    assert rates["reason"].to_list() == [None, None]


def test_following_the_load_is_compared_with_one_clock_for_all_rates() -> None:
    [row] = follow_load(frame(POINTS), LIMITS).to_dicts()
    assert (row["sm_clock_mhz_requested"], row["is_default"], row["num_rates"]) == (1200, False, 2)
    assert row["following_change"] == pytest.approx((200 + 450) / 900 - 1)
    assert row["static_change"] == pytest.approx((240 + 450) / 900 - 1)
    assert row["following_against_static"] == pytest.approx(650 / 690 - 1)
    assert row["reason"] is None


def test_limits_of_the_report_count_as_well() -> None:
    slow = [row | {"slowdown": 0.3 if row["sm_clock_mhz_requested"] == 800 else 0.0} for row in POINTS]
    rates = choose_by_rate(frame(slow), parse_limits(max_slowdown="5%"))
    assert rates["sm_clock_mhz_requested"].to_list() == [1200, 1200]


def test_where_nothing_keeps_the_slo_it_says_so() -> None:
    late = [point(1.0, None, 300.0, attained=0.5), point(1.0, 800, 200.0, attained=0.4)]
    [row] = choose_by_rate(frame(late), LIMITS).to_dicts()
    assert (row["sm_clock_mhz_requested"], row["joules_per_good_request"]) == (None, None)
    assert row["reason"] == "no sound operating point keeps the SLO and the limits"
    full = [point(9.0, None, 700.0, attained=0.1, is_sound=False, verdicts=["overloaded"])]
    assert choose_by_rate(frame(full), LIMITS)["reason"].to_list() == ["every operating point is overloaded"]
    [row] = follow_load(frame([*POINTS[:3], *full]), LIMITS).to_dicts()
    assert row["reason"] == "the default clock has no sound trial at every rate"


def test_without_an_slo_any_request_counts() -> None:
    free = [
        row
        | {"slo_required_fraction": None, "joules_per_good_request": None, "joules_per_request": row["mean_power_w"]}
        for row in POINTS
    ]
    assert choose_by_rate(frame(free), LIMITS)["sm_clock_mhz_requested"].to_list() == [800, 800]


def test_without_one_clock_for_all_rates_following_is_still_known() -> None:
    apart = [POINTS[0], POINTS[2], POINTS[3], POINTS[4]]
    apart[0] = apart[0] | {"slo_attainment_fraction": 0.9}
    [row] = follow_load(frame(apart), LIMITS).to_dicts()
    assert row["static_change"] is None
    assert row["reason"] == "no operating point keeps the SLO and the limits at every rate"
    assert row["following_change"] == pytest.approx((200 + 450) / 900 - 1)


def test_closed_loops_are_left_out() -> None:
    closed = [row | {"concurrency": 8, "request_rate_per_s_requested": None, "burstiness": None} for row in POINTS]
    assert choose_by_rate(frame(closed), LIMITS).is_empty()
    assert dict(follow_load(frame(closed), LIMITS).schema) == FOLLOWING
    assert follow_load(frame(POINTS[:3]), LIMITS).is_empty()  # one rate alone
