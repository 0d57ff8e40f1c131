import polars as pl
import pytest

from runner.analysis.advice.routing import ROUTES, bound_routing
from runner.results.tables import REQUESTS
from tests.analysis.trial_rows import frame, trial

NUM_SAMPLES = 100


def requests(scores, energy_j, *, rounds=1, parts=1, method="attributed"):
    """A trial's requests: each sample `rounds` times, as `parts` requests that share its energy."""
    return [
        {
            "request_id": f"qa/{sample}/{part}#{number}",
            "round": number,
            "sample_id": f"qa/{sample}",
            "score": score,
            "energy_j": energy_j / parts,
            "energy_method": method,
        }
        for sample, score in enumerate(scores)
        for number in range(rounds)
        for part in range(parts)
    ]


def bound(models, **columns):
    """`models`: by name, the requests of its one trial."""
    rows = [
        trial(
            None, 1.0, model=name, block_id=name, trial_id=name, quality=0.5, quality_higher_is_better=True, **columns
        )
        for name in models
    ]
    tables = {
        name: pl.DataFrame([{"trial_id": name} | row for row in rows], schema=REQUESTS) for name, rows in models.items()
    }
    return bound_routing(frame(*rows), lambda trial_ids: pl.concat([tables[i].lazy() for i in trial_ids]))


RIGHT_ON_60 = [1.0] * 60 + [0.0] * 40
RIGHT_ON_80 = [1.0] * 50 + [0.0] * 10 + [1.0] * 30 + [0.0] * 10
"""Right on 50 that the small model has right too, on 30 that it has wrong; both fail on the last 10."""


def test_the_bound_follows_from_scores_and_energies():
    routes = bound({"small": requests(RIGHT_ON_60, 1.0), "large": requests(RIGHT_ON_80, 4.0)})
    assert dict(routes.schema) == ROUTES
    [route] = routes.to_dicts()
    assert (route["reference_model"], route["models"]) == ("large", ["small", "large"])
    # On 50 both are right, on 10 the small one alone is, on 10 both fail: 70 go to the small model.
    assert route["num_samples"] == NUM_SAMPLES
    assert route["smaller_suffices"] == pytest.approx(0.7)
    assert route["shares"] == pytest.approx([0.7, 0.3])
    assert route["reference_joules_per_sample"] == pytest.approx(4.0)
    assert route["routed_joules_per_sample"] == pytest.approx(0.7 * 1.0 + 0.3 * 4.0)
    assert route["saving"] == pytest.approx(1 - 1.9 / 4)
    assert route["saving_low"] < route["saving"] < route["saving_high"]
    # Of a binomial share: 1.96 sqrt(0.7 x 0.3 / 100) = 0.09.
    assert route["smaller_suffices_low"] == pytest.approx(0.61, abs=0.02)
    assert route["smaller_suffices_high"] == pytest.approx(0.79, abs=0.02)
    assert route["reference_score"] == pytest.approx(0.8)
    assert route["routed_score"] == pytest.approx(0.9)
    assert route["energy_method"] == "attributed"


def test_the_same_requests_in_another_order_give_the_same_intervals():
    models = {"small": requests(RIGHT_ON_60, 1.0), "large": requests(RIGHT_ON_80, 4.0)}
    [route] = bound(models).to_dicts()
    for _ in range(5):
        [again] = bound({name: rows[::-1] for name, rows in models.items()}).to_dicts()
        bounds = ("smaller_suffices_low", "smaller_suffices_high", "saving_low", "saving_high")
        assert [again[name] for name in bounds] == pytest.approx([route[name] for name in bounds], rel=1e-12)


def test_a_samples_energy_is_the_sum_of_its_requests_and_the_mean_over_rounds():
    small = requests(RIGHT_ON_60, 1.0, rounds=3, parts=4, method="measured")
    large = requests(RIGHT_ON_80, 4.0, rounds=2, parts=4, method="measured")
    [route] = bound({"small": small, "large": large}).to_dicts()
    assert route["reference_joules_per_sample"] == pytest.approx(4.0)
    assert route["saving"] == pytest.approx(1 - 1.9 / 4)
    assert route["energy_method"] == "measured"


def test_samples_that_a_model_had_to_cut_do_not_count():
    cut = [row | {"truncated": row["sample_id"] in {"qa/0", "qa/1"}} for row in requests(RIGHT_ON_60, 1.0)]
    [route] = bound({"small": cut, "large": requests(RIGHT_ON_80, 4.0)}).to_dicts()
    assert route["num_samples"] == NUM_SAMPLES - 2
    assert route["shares"] == pytest.approx([68 / 98, 30 / 98])


def test_a_model_that_is_cheapest_and_best_leaves_nothing_to_route():
    [route] = bound({"small": requests(RIGHT_ON_80, 1.0), "large": requests(RIGHT_ON_60, 4.0)}).to_dicts()
    assert (route["reference_model"], route["smaller_suffices"], route["saving"]) == ("small", 0.0, 0.0)
    assert route["shares"] == [1.0, 0.0]


def test_of_equally_good_models_the_cheaper_is_the_reference():
    [route] = bound({"large": requests(RIGHT_ON_60, 4.0), "small": requests(RIGHT_ON_60, 1.0)}).to_dicts()
    assert route["reference_model"] == "small"


def test_three_models_share_the_samples():
    best = [1.0] * NUM_SAMPLES
    [route] = bound(
        {"a": requests(RIGHT_ON_60, 1.0), "b": requests(RIGHT_ON_80, 2.0), "c": requests(best, 5.0)}
    ).to_dicts()
    assert route["shares"] == pytest.approx([0.6, 0.3, 0.1])
    assert route["saving"] == pytest.approx(1 - (0.6 + 0.6 + 0.5) / 5)


@pytest.mark.parametrize(
    "models",
    [
        {"small": requests(RIGHT_ON_60, 1.0)},
        {"small": requests(RIGHT_ON_60[:5], 1.0), "large": requests(RIGHT_ON_80[:5], 4.0)},
        {"small": requests([None] * 100, 1.0), "large": requests(RIGHT_ON_80, 4.0)},
    ],
    ids=["one model", "five samples", "no scores"],
)
def test_nothing_is_said_of_too_little(models):
    assert bound(models).is_empty()


def test_only_sound_trials_at_the_default_clock_count():
    models = {"small": requests(RIGHT_ON_60, 1.0), "large": requests(RIGHT_ON_80, 4.0)}
    assert bound(models, verdicts=["trace_gap"]).is_empty()
    assert bound(models, sm_clock_mhz_requested=990).is_empty()
    assert bound(models).height == 1
