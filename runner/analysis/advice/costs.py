"""Money and carbon: what tokens and good requests cost at every operating point.

Rows of `operating_points.OPERATING_POINTS` and a `Tariff` enter. `COSTS` leave. Next: study.
"""

from collections.abc import Iterator

import polars as pl

from runner.analysis.advice.tariff import NO_TARIFF, Tariff
from runner.analysis.run.operating_points import BLOCK, OPERATING_POINTS, POINT

JOULES_PER_KWH = 3.6e6
_MILLION = 1e6
_QUANTITIES = ("kwh", "cost", "co2_g")
_BOUNDS = ("", "_low", "_high")
_TAKEN = (*BLOCK, *POINT, "is_default", "gpu_name", "simulated", "is_sound", "sm_clock_mhz", "token_kind")

COSTS: dict[str, pl.DataType] = {
    **{name: OPERATING_POINTS[name] for name in _TAKEN},
    **{
        f"{quantity}_per_{denominator}{bound}": pl.Float64()
        for denominator in ("million_tokens", "good_request")
        for quantity in _QUANTITIES
        for bound in _BOUNDS
    },
    "reason": pl.String(),
}
"""What `compute_costs` returns: one row an operating point, in the order of the operating points.

*_per_million_tokens: of output tokens where `token_kind` is output, else of prompt tokens, since log-likelihoods
    generate nothing. `_low` and `_high` are the 95 % interval of the energy. Price, carbon and PUE are taken as exact.
*_per_good_request: of a request that kept the SLO. Null where the load has none.
kwh: the energy of the GPU times the PUE. The host's own energy is not in it.
cost: in the tariff's currency. co2_g: grams. Both are null where the tariff names none.
reason: why kwh_per_million_tokens is null.
"""


def compute_costs(points: pl.DataFrame, tariff: Tariff) -> pl.DataFrame:
    """Return what each operating point costs.

    Args:
        points: [num_points] rows of `OPERATING_POINTS`.
        tariff: without any part there is nothing to compute.
    Returns: [num_points] rows of `COSTS`, in the same order; none where the tariff is empty.
    """
    if tariff == NO_TARIFF:
        return pl.DataFrame(schema=COSTS)
    unknown = pl.when(pl.col("joules_per_token").is_null())
    return points.select(
        *_TAKEN,
        *(
            column
            for bound in _BOUNDS
            for column in _price(pl.col(f"joules_per_token{bound}"), _MILLION, "per_million_tokens" + bound, tariff)
        ),
        *(
            column
            for bound in _BOUNDS
            for column in _price(pl.col(f"joules_per_good_request{bound}"), 1.0, "per_good_request" + bound, tariff)
        ),
        reason=unknown.then(pl.coalesce("interval_reason", pl.lit("no energy was read"))),
    ).select(pl.col(name).cast(dtype) for name, dtype in COSTS.items())


def _price(joules: pl.Expr, number: float, name: str, tariff: Tariff) -> Iterator[pl.Expr]:
    """Yield kWh, money and grams of CO2 of `number` times so many joules."""
    kwh = joules * (number * tariff.factor / JOULES_PER_KWH)
    for quantity, per_kwh in zip(_QUANTITIES, (1.0, tariff.price_per_kwh, tariff.carbon_g_per_kwh), strict=True):
        value = pl.lit(None, pl.Float64) if per_kwh is None else kwh * per_kwh
        yield value.alias(f"{quantity}_{name}")
