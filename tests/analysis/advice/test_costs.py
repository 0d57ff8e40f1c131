import polars as pl
import pytest

from runner.analysis.advice.costs import COSTS, compute_costs
from runner.analysis.advice.tariff import NO_TARIFF, parse_tariff
from runner.analysis.run.summary import summarise_operating_points
from tests.analysis.trial_rows import block, frame

TARIFF = parse_tariff(price="0.25 EUR/kWh", carbon="400 g/kWh", pue=1.2)


def make_points() -> pl.DataFrame:
    return summarise_operating_points(frame(*block({990: (0.8, 1.1)})))


def test_without_a_tariff_there_is_nothing_to_compute() -> None:
    costs = compute_costs(make_points(), NO_TARIFF)
    assert (costs.height, dict(costs.schema)) == (0, COSTS)


def test_a_million_tokens_cost_their_energy_times_pue_and_price() -> None:
    points = make_points().with_columns(joules_per_token=pl.lit(3.0))  # 3 MJ a million: 3 / 3.6 kWh
    costs = compute_costs(points, TARIFF)
    assert dict(costs.schema) == COSTS
    assert costs.height == points.height == 2
    for row in costs.iter_rows(named=True):
        assert row["kwh_per_million_tokens"] == pytest.approx(1.0)  # 3 / 3.6 x 1.2
        assert row["cost_per_million_tokens"] == pytest.approx(0.25)
        assert row["co2_g_per_million_tokens"] == pytest.approx(400.0)
        assert row["reason"] is None


def test_the_interval_is_that_of_the_energy() -> None:
    points, costs = make_points(), compute_costs(make_points(), TARIFF)
    for bound in ("low", "high"):
        relative = points[f"joules_per_token_{bound}"] / points["joules_per_token"]
        for quantity in ("kwh", "cost", "co2_g"):
            name = f"{quantity}_per_million_tokens"
            assert (costs[f"{name}_{bound}"] / costs[name]).to_list() == pytest.approx(relative.to_list())


def test_what_the_tariff_does_not_name_is_null() -> None:
    costs = compute_costs(make_points(), parse_tariff(pue=1.5))
    assert costs["kwh_per_million_tokens"].null_count() == 0
    assert costs["cost_per_million_tokens"].null_count() == costs.height
    assert costs["co2_g_per_million_tokens"].null_count() == costs.height
    alone = compute_costs(make_points(), parse_tariff(price="1/kWh"))
    assert (alone["cost_per_million_tokens"] - alone["kwh_per_million_tokens"]).abs().max() == 0
    assert costs["kwh_per_million_tokens"][0] == pytest.approx(1.5 * alone["kwh_per_million_tokens"][0])


def test_an_unknown_energy_costs_null_with_its_reason() -> None:
    points = summarise_operating_points(
        frame(*(row | {"joules_per_output_token": None} for row in block({990: (1, 1)})))
    )
    costs = compute_costs(points, TARIFF)
    assert costs["kwh_per_million_tokens"].null_count() == costs.height == 2
    assert costs["reason"].to_list() == ["no energy was read"] * 2


def test_log_likelihoods_are_priced_by_prompt_tokens() -> None:
    rows = [row | {"request_kind": "loglikelihood", "joules_per_prompt_token": 3.0} for row in block({990: (0.8, 1.1)})]
    costs = compute_costs(summarise_operating_points(frame(*rows)), TARIFF)
    assert set(costs["token_kind"]) == {"prompt"}
    assert costs["kwh_per_million_tokens"].to_list() == pytest.approx([1.0, 1.0])


def test_a_good_request_is_priced_where_its_energy_is_known() -> None:
    points = make_points()
    assert compute_costs(points, TARIFF)["kwh_per_good_request"].null_count() == points.height
    known = compute_costs(points.with_columns(joules_per_good_request=pl.lit(300.0)), TARIFF)
    assert known["kwh_per_good_request"].to_list() == pytest.approx([1e-4, 1e-4])
    assert known["cost_per_good_request"].to_list() == pytest.approx([2.5e-5, 2.5e-5])
    assert known["co2_g_per_good_request"].to_list() == pytest.approx([0.04, 0.04])
