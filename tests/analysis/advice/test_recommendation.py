import pytest

from runner.analysis.advice.limits import NO_LIMITS, Limits
from runner.analysis.advice.recommendation import RECOMMENDATIONS, recommend
from runner.analysis.run.summary import summarise_operating_points
from tests.analysis.trial_rows import block, frame, trial

CHANGES = {1500: (0.85, 1.02), 990: (0.80, 1.10), 345: (1.20, 2.00)}


def chosen(rows, limits=NO_LIMITS, goal="energy"):
    recommended = recommend(summarise_operating_points(frame(*rows)), limits).filter(goal=goal)
    assert recommended.height == 1
    return recommended.row(0, named=True)


def test_schemas_hold_with_and_without_rows():
    for rows in ([], block(CHANGES)):
        points = summarise_operating_points(frame(*rows))
        assert dict(recommend(points, NO_LIMITS).schema) == RECOMMENDATIONS


def test_the_least_energy_is_recommended_with_its_saving():
    row = chosen(block(CHANGES))
    assert (row["conclusion"], row["reason"], row["sm_clock_mhz_requested"]) == ("saves", None, 990)
    assert row["change"] == pytest.approx(-0.2, abs=0.001)
    assert row["change_low"] < -0.2 < row["change_high"] < -0.19
    assert row["slowdown"] == pytest.approx(0.1)
    assert (row["num_compared"], row["num_within_limits"]) == (3, 4)


def test_limits_leave_the_best_of_what_keeps_them():
    row = chosen(block(CHANGES), Limits(max_slowdown=0.05))
    assert (row["conclusion"], row["sm_clock_mhz_requested"], row["num_within_limits"]) == ("saves", 1500, 2)
    row = chosen(block(CHANGES), Limits(max_slowdown=0.01))
    assert (row["conclusion"], row["is_default"]) == ("default", True)
    assert row["reason"] == "beside it, no operating point that was measured keeps the limits: slowdown"


def test_ceilings_bind_the_default_clock_too():
    rows = [row | {"ttft_s_p95": 0.3} for row in block(CHANGES)]
    row = chosen(rows, Limits(max_ttft_s=0.2))
    assert (row["conclusion"], row["sm_clock_mhz_requested"]) == ("none", None)
    assert row["reason"] == "no operating point that was measured keeps the limits: TTFT"


def test_the_energy_delay_product_has_its_own_optimum():
    row = chosen(block(CHANGES), goal="energy_delay_product")
    assert row["sm_clock_mhz_requested"] == 1500  # 0.85 x 1.02 < 0.80 x 1.10
    assert row["change"] == pytest.approx(0.85 * 1.02 - 1, abs=0.001)
    counted = [r | {"joules_per_request": None, "energy_delay_product_js": None} for r in block(CHANGES)]
    row = chosen(counted, goal="energy_delay_product")  # by its two factors
    assert (row["sm_clock_mhz_requested"], row["conclusion"]) == (1500, "unproven")
    assert row["change"] == pytest.approx(0.85 * 1.02 - 1, abs=0.001)


def test_trials_with_verdicts_do_not_count():
    rows = [
        row | ({"verdicts": ["clock_not_held"]} if row["sm_clock_mhz_requested"] == 990 else {})
        for row in block(CHANGES)
    ]
    assert chosen(rows)["sm_clock_mhz_requested"] == 1500
    assert chosen(rows)["num_compared"] == 2


@pytest.mark.parametrize(
    ("rows", "conclusion", "reason"),
    [
        ([trial(None, 1.0), trial(990, 0.8)], "unproven", "too few trials on one GPU"),
        ([trial(1500, 0.9), trial(990, 0.8)], "unproven", "no sound default-clock trial"),
        ([trial(None, 1.0, verdicts=["trace_gap"]), trial(990, 0.8)], "none", "only one operating point"),
        ([trial(None, 1.0), trial(None, 1.0)], "none", "only the default clock has a sound trial"),
        ([trial(None, 1.0, verdicts=["trace_gap"])], "none", "no sound trial"),
        ([trial(None, None), trial(990, None)], "none", "no sound trial with an energy reading"),
        (block({990: (0.9999, 1.0)}), "unproven", "the saving is no larger than its error"),
        (block({990: (1.1, 1.0)}), "default", None),
    ],
)
def test_thin_evidence_is_called_so(rows, conclusion, reason):
    row = chosen(rows)
    assert row["conclusion"] == conclusion
    assert row["reason"] is None if reason is None else reason in row["reason"]


def test_the_luckiest_of_many_points_is_not_taken_for_a_saving():
    # 1.6 % less with 0.5 % noise: shown where it is the only other point, and not where it is the least of 26.
    noisy = [
        trial(clock, (1.0 if clock is None else 0.984) * noise)
        for noise in (0.995, 1.005, 1.0)
        for clock in (None, 990)
    ]  # fmt: skip
    assert chosen(noisy)["conclusion"] == "saves"
    others = [trial(clock, 1.2 * noise) for noise in (0.995, 1.005, 1.0) for clock in range(400, 900, 20)]
    row = chosen(noisy + others)
    assert (row["conclusion"], row["sm_clock_mhz_requested"], row["num_compared"]) == ("unproven", 990, 26)
    assert "when the choice among 26 points is allowed for" in row["reason"]


def test_whether_outputs_depend_on_the_clock_is_told():
    rows = [row | {"output_agreement": {990: 0.97}.get(row["sm_clock_mhz_requested"], 1.0)} for row in block(CHANGES)]
    assert chosen(rows)["least_output_agreement"] == pytest.approx(0.97)
    assert chosen(block(CHANGES))["least_output_agreement"] is None
