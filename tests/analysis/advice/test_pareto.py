import pytest

from runner.analysis.advice.pareto import PARETO_POINTS, find_front
from runner.analysis.run.summary import summarise_operating_points
from tests.analysis.trial_rows import frame, trial


def front(*rows):
    return find_front(summarise_operating_points(frame(*rows)))


def on_front(points, column="sm_clock_mhz_requested"):
    return points.filter("is_on_front")[column].to_list()


def test_schema_holds_with_and_without_rows():
    assert dict(front().schema) == PARETO_POINTS
    assert dict(front(trial(None, 1.0)).schema) == PARETO_POINTS


def test_only_what_nothing_beats_is_on_the_front():
    points = front(
        trial(None, 1.0, 1.0),
        trial(1500, 0.8, 1.1),
        trial(1200, 0.9, 1.2),  # 1500 MHz needs less and is faster
        trial(990, 0.7, 1.5),
        trial(345, 0.7, 2.0),  # as little as 990 MHz, and slower
        trial(200, 0.1, 0.1, verdicts=["clock_not_held"]),
    )
    assert on_front(points) == [990, 1500, None]
    assert points.height == 5
    assert points["energy_j"].to_list() == pytest.approx([70.0, 70.0, 80.0, 90.0, 100.0])
    assert not points["compares_quality"].any()


SMALL = {
    "model": "small",
    "block_id": "s",
    "quality_metric": "acc",
    "quality_higher_is_better": True,
    "quality_stderr": 0.02,
}
LARGE = SMALL | {"model": "large", "block_id": "l"}


def test_a_better_answer_keeps_a_model_on_the_front():
    points = front(
        trial(None, 1.0, 1.0, quality=0.60, **SMALL),
        trial(990, 0.8, 1.1, quality=0.60, **SMALL),
        trial(None, 3.0, 2.0, quality=0.75, **LARGE),
        trial(990, 2.5, 2.5, quality=0.75, **LARGE),
    )
    assert points["compares_quality"].all()
    assert points["is_on_front"].all()
    without = front(trial(None, 1.0, 1.0, **SMALL), trial(None, 3.0, 2.0, **LARGE))
    assert on_front(without, "model") == ["small"]


def test_models_that_had_to_cut_prompts_are_not_compared_by_quality():
    def scored(num_truncated, *models):
        cut = {"num_requests": 40, "num_truncated_requests": num_truncated}
        return front(*(trial(None, 1.0, quality=0.60, **model, **cut) for model in models))

    assert scored(0, SMALL, LARGE)["compares_quality"].all()
    assert not scored(1, SMALL, LARGE)["compares_quality"].any()
    assert scored(1, SMALL)["compares_quality"].all()


def test_noise_of_the_scores_puts_no_clock_on_the_front():
    points = front(
        trial(None, 1.0, 1.0, quality=0.60, **SMALL),
        trial(
            990, 1.2, 1.2, quality=0.61, **SMALL
        ),  # worse in energy and time; its score is the default's, by its error
        trial(345, 1.4, 1.4, quality=0.90, **SMALL),  # a score that no error explains
    )
    assert on_front(points) == [None, 345]
    assert points["compared_quality"].to_list() == pytest.approx([0.60, 0.60, 0.90])


def test_a_score_that_should_be_low_is_compared_as_such():
    loss = SMALL | {"quality_higher_is_better": False}
    points = front(trial(None, 1.0, 1.0, quality=2.0, **loss), trial(990, 2.0, 2.0, quality=3.0, **loss))
    assert on_front(points) == [None]


def test_tables_without_requests_are_compared_by_the_token():
    columns = {"joules_per_request": None, "latency_s_p50": None, "energy_delay_product_js": None}
    points = front(
        trial(None, 1.0, output_tokens_per_s=100.0, **columns), trial(990, 0.8, output_tokens_per_s=80.0, **columns)
    )
    assert points["energy_j"].to_list() == pytest.approx([0.8, 1.0])
    assert points["latency_s"].to_list() == pytest.approx([1 / 80, 1 / 100])
    assert points["is_on_front"].all()


def test_tasks_do_not_beat_each_other():
    points = front(trial(None, 1.0, 1.0), trial(None, 5.0, 5.0, task="other", block_id="o"))
    assert points["is_on_front"].all()
