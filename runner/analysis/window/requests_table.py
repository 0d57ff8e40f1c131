"""The table of a trial's requests: a `Measurement`, scores and energies enter, rows of `tables.REQUESTS` leave."""

from collections.abc import Mapping

import polars as pl

from runner.analysis.energy.attribution import Attribution
from runner.analysis.window.service import keeps_slo
from runner.results.measurement import Measurement
from runner.results.tables import REQUESTS
from runner.spec.request import Completion

_OF_COMPLETION = tuple(name for name in REQUESTS if name in Completion.__dataclass_fields__)


def build_requests_table(
    measurement: Measurement, per_sample: Mapping[str, float], attribution: Attribution | None = None
) -> pl.DataFrame:
    """Return [num_requests] rows of `tables.REQUESTS`.

    Args:
        per_sample: scores by sample_id. A failed request has none, even if its sample has one.
        attribution: the requests' energies; null without it.
    """
    slo = measurement.identity.slo
    rows = [
        {name: getattr(completion, name) for name in _OF_COMPLETION}
        | {
            "trial_id": measurement.identity.row_id,
            "request_id": completion.row_id,
            "request_kind": completion.kind,
            "is_good": None if slo is None else keeps_slo(completion, slo),
            "score": per_sample.get(completion.sample_id) if completion.error is None else None,
            "prompt_token_entropy_bits": measurement.prompt_token_entropy_bits.get(completion.request_id),
            "prompt_surprise_nats": measurement.prompt_surprise_nats.get(completion.request_id),
        }
        for completion in measurement.completions
    ]
    table = pl.DataFrame(rows, schema=REQUESTS)
    if attribution is None:
        return table
    return table.with_columns(
        energy_j=pl.Series(attribution.energy_j, dtype=pl.Float64),
        energy_method=pl.Series(attribution.method, dtype=pl.String),
    )
