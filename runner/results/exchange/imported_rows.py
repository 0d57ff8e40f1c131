"""Rows of trials that were measured elsewhere: the default clock found, ids made, and everything unknown null.

Lines with the columns of a row of `tables.TRIALS` enter, rows leave. Next: `published.py` and `vllm_results.py`.
"""

import hashlib

import polars as pl

from runner.results.tables import TRIALS
from runner.spec.load import LOAD_COLUMNS

RATE = "output_tokens_per_s"
POINT = ("sm_clock_mhz", "mem_clock_mhz", "power_limit_w")
"""The columns of the operating point that a line asks for. All null: the default clock."""
_BLOCK = ("model", "task", *LOAD_COLUMNS, "gpu_name")
_OF_DEFAULT = "of_default"


def make_trials(lines: pl.DataFrame) -> pl.DataFrame:
    """Return [num_trials] rows of `tables.TRIALS`: status ok, no verdicts, energy_source "imported".

    Args:
        lines: [num_trials] with `line` (the place in the file), model, task, the load, gpu_name, `POINT`, mean_power_w,
            joules_per_output_token, output_tokens_per_s, and any other column of `tables.TRIALS`.

    Where a block has no line at the default, its highest clocks take the place of the default. Their `*_requested` is
    null, and the clocks are in sm_clock_mhz and mem_clock_mhz.
    """
    unknown = [pl.lit(None, TRIALS[name]).alias(name) for name in LOAD_COLUMNS if name not in lines.columns]
    return _as_rows(_find_default(lines.with_columns(unknown)))


def _find_default(lines: pl.DataFrame) -> pl.DataFrame:
    """Mark the lines of the default clock. Without such a line, a block's highest clocks take its place."""
    asks_nothing = pl.all_horizontal(pl.col(name).is_null() for name in POINT)
    by_clocks = pl.struct(pl.col(name).fill_null(0.0) for name in ("mem_clock_mhz", "sm_clock_mhz", "power_limit_w"))
    order = by_clocks.rank("dense", descending=True).over(_BLOCK)
    stands_in = ~asks_nothing.any().over(_BLOCK) & (order == 1)
    return lines.with_columns((asks_nothing | stands_in).alias(_OF_DEFAULT))


def _as_rows(lines: pl.DataFrame) -> pl.DataFrame:
    asked = {f"{name}_requested": pl.when(~pl.col(_OF_DEFAULT)).then(name) for name in POINT}
    identity = [pl.col(name).cast(pl.String).fill_null("") for name in _BLOCK]
    rows = lines.with_columns(
        **asked,
        block_id=pl.concat_str(identity, separator="\n").map_elements(_digest, return_dtype=pl.String),
        mean_power_w=pl.coalesce("mean_power_w", pl.col("joules_per_output_token") * pl.col(RATE)),
        joules_per_output_token=pl.coalesce("joules_per_output_token", pl.col("mean_power_w") / pl.col(RATE)),
    ).with_columns(
        trial_id=pl.concat_str("block_id", pl.col("line").cast(pl.String)).map_elements(
            _digest, return_dtype=pl.String
        ),
        repeat=pl.int_range(pl.len()).over("block_id", *asked),
        request_kind=pl.lit("generate"),
        is_sentinel=pl.lit(value=False),
        attempt=pl.lit(1),
        simulated=pl.lit(value=False),
        status=pl.lit("ok"),
        energy_source=pl.lit("imported"),
        verdicts=pl.lit([], dtype=pl.List(pl.String)),
        gpu_uuids=pl.lit([], dtype=pl.List(pl.String)),
    )
    known = set(rows.columns)
    return rows.select(
        (pl.col(name) if name in known else pl.lit(None, dtype=dtype).alias(name)).cast(dtype)
        for name, dtype in TRIALS.items()
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
