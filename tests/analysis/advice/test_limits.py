import pytest

from runner.analysis.advice.limits import NO_LIMITS, Limits, find_doubtful, find_exceeded, parse_limits, quality_change


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, NO_LIMITS),
        ({"max_slowdown": "5%"}, Limits(max_slowdown=0.05)),
        ({"max_slowdown": " 7.5 % "}, Limits(max_slowdown=0.075)),
        ({"min_quality_change": "-0.5%"}, Limits(min_quality_change=-0.005)),
        ({"max_ttft": "0.5s", "max_tpot": "50ms"}, Limits(max_ttft_s=0.5, max_tpot_s=0.05)),
    ],
)
def test_limits_are_read_with_their_units(options, limits):
    assert parse_limits(**options) == limits


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_slowdown": "5"}, ["--max-slowdown = '5'", "from 0% to 1000%, such as 5%"]),
        ({"max_slowdown": "-5%"}, ["--max-slowdown = '-5%'"]),
        ({"max_slowdown": "fast"}, ["'fast'"]),
        ({"min_quality_change": "1%"}, ["--min-quality-change = '1%'", "from -100% to 0%"]),
        ({"min_quality_change": "-0.5"}, ["-0.5", "such as -0.5%"]),
        ({"max_ttft": "0.5"}, ["--max-ttft = '0.5'", "0.5s or 500ms"]),
        ({"max_tpot": "0ms"}, ["--max-tpot = '0ms'", "above 0"]),
        ({"max_tpot": "5 min"}, ["'5 min'"]),
    ],
)
def test_a_limit_that_cannot_be_read_is_explained(options, words):
    with pytest.raises(ValueError, match="is not allowed: give") as error:
        parse_limits(**options)
    assert all(word in str(error.value) for word in words)


def test_limits_are_said_in_words():
    said = str(Limits(max_slowdown=0.05, min_quality_change=-0.005, max_ttft_s=0.5, max_tpot_s=0.05))
    assert said == "at most 5 % slower, quality changed by −0.5 % at worst, TTFT at most 500 ms, TPOT at most 50 ms"


def point(**columns):
    return {
        "request_kind": "generate", "is_default": False, "slowdown": 0.04, "slowdown_high": 0.06, "ttft_s_p95": 0.2,
        "ttft_s_p95_high": 0.3, "tpot_s_p95": 0.02, "tpot_s_p95_high": 0.02, "quality": 0.49,
        "quality_difference": -0.01, "quality_difference_stderr": 0.02, "quality_higher_is_better": True,
        "output_agreement": 0.9,
    } | columns  # fmt: skip


ALL = Limits(max_slowdown=0.05, min_quality_change=-0.03, max_ttft_s=0.25, max_tpot_s=0.02)


def test_means_are_held_against_limits_and_intervals_raise_doubts():
    assert list(find_exceeded(point(), ALL)) == []
    assert list(find_doubtful(point(), ALL)) == ["slowdown", "quality", "TTFT"]
    slow = point(slowdown=0.051, quality_difference=-0.02, quality=0.48, ttft_s_p95=0.26, tpot_s_p95=0.021)
    assert list(find_exceeded(slow, ALL)) == ["slowdown", "quality", "TTFT", "TPOT"]
    assert list(find_exceeded(slow, NO_LIMITS)) == []


def test_what_is_not_known_keeps_no_limit():
    unknown = point(slowdown=None, quality=None, quality_difference=None, ttft_s_p95=None, tpot_s_p95=None)
    assert list(find_exceeded(unknown, ALL)) == [
        f"{name} (not known)" for name in ("slowdown", "quality", "TTFT", "TPOT")
    ]


def test_ceilings_say_nothing_of_log_likelihoods():
    cloze = point(request_kind="loglikelihood", ttft_s_p95=None, tpot_s_p95=None)
    assert list(find_exceeded(cloze, ALL)) == []


def test_a_change_of_quality_is_negative_where_it_is_worse():
    assert quality_change(point()) == pytest.approx(-0.01 / 0.5)
    assert quality_change(point(quality_higher_is_better=False)) == pytest.approx(0.01 / 0.5)
    assert quality_change(point(quality=0.1, quality_difference=0.1)) is None  # nothing times anything
    assert quality_change(point(is_default=True, quality=None)) == 0.0


def test_identical_outputs_leave_no_doubt_about_quality():
    same = point(quality=0.5, quality_difference=0.0, output_agreement=1.0)
    assert "quality" not in list(find_doubtful(same, Limits(min_quality_change=-0.001)))
    assert "quality" in list(find_doubtful(same | {"output_agreement": 0.99}, Limits(min_quality_change=-0.001)))
