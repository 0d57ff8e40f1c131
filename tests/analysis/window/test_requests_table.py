"""The table of a trial's requests."""

from dataclasses import replace

import polars as pl

from runner.analysis.energy.attribution import Attribution
from runner.analysis.window.requests_table import build_requests_table
from runner.results.tables import REQUESTS
from tests.analysis.measurements import make_completion, make_even_measurement, make_measurement


def test_the_table_has_a_row_a_request_and_no_invented_energy() -> None:
    measurement = make_even_measurement()
    failed = replace(measurement.completions[0], request_id="task/x", sample_id="task/0-0", error="aborted")
    measurement = replace(measurement, completions=[*measurement.completions, failed])
    measurement = replace(measurement, prompt_token_entropy_bits={"task/x": 6.5})
    table = build_requests_table(measurement, {"task/0-0": 1.0})
    assert table.schema == pl.Schema(REQUESTS)
    assert table["prompt_token_entropy_bits"].to_list() == [None] * 8 + [6.5]
    assert table["request_id"].to_list() == [c.row_id for c in measurement.completions]
    assert set(table["trial_id"]) == {"t0"}
    assert table["last_token_ns"].to_list() == [c.last_token_ns for c in measurement.completions]
    assert table["energy_j"].null_count() == table["energy_method"].null_count() == 9
    # A failed request has no score, though its document has one.
    assert table["score"].to_list() == [1.0] + [None] * 8


def test_rounds_of_a_request_are_rows_of_their_own_and_share_its_features() -> None:
    completions = [make_completion("task/0", k, k + 0.5, k + 1.0, round=k) for k in range(3)]
    measurement = make_measurement(completions, 3.0, prompt_surprise_nats={"task/0": 2.5})
    table = build_requests_table(measurement, {})
    assert table.select("request_id", "round", "sample_id", "prompt_surprise_nats").rows() == [
        (f"task/0#{k}", k, "task/0", 2.5) for k in range(3)
    ]


def test_a_second_attempt_has_its_own_trial_id() -> None:
    table = build_requests_table(make_even_measurement(identity={"attempt": 2}), {})
    assert set(table["trial_id"]) == {"t0-2"}


def test_energies_are_those_of_the_attribution_in_order() -> None:
    completions = [make_completion(f"task/{k}", k, k + 0.5, k + 1.0) for k in range(2)]
    attribution = Attribution(energy_j=[1.5, None], method=["measured", None], unattributed_j=0.0)
    table = build_requests_table(make_measurement(completions, 2.0), {}, attribution)
    assert table.select("energy_j", "energy_method").rows() == [(1.5, "measured"), (None, None)]
    assert table.schema == pl.Schema(REQUESTS)
