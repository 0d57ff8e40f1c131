"""What bound an operating point."""

import polars as pl
import pytest

from runner.analysis.run.bound_by import BOUNDS, find_bound


@pytest.mark.parametrize(
    ("tensor", "dram", "sm", "capped", "bound"),
    [
        (0.62, 0.12, 0.97, 0.9, "power cap"),  # a bf16 product on an H200, as it was measured
        (0.62, 0.12, 0.97, 0.1, "tensor cores"),
        (0.62, 0.12, 0.97, None, "tensor cores"),
        (0.03, 0.61, 0.82, 0.0, "memory bandwidth"),
        (0.61, 0.61, 0.9, 0.0, "tensor cores"),
        (0.02, 0.20, 0.35, 0.0, "host"),
        (0.20, 0.30, 0.80, 0.0, "no single part"),
        (None, 0.61, 0.82, 0.0, None),
        (0.03, None, 0.82, 0.0, None),
        (0.03, 0.61, None, 0.9, None),
    ],
)
def test_the_bound(
    tensor: float | None, dram: float | None, sm: float | None, capped: float | None, bound: str | None
) -> None:
    row = {
        "tensor_active_fraction": tensor,
        "dram_active_fraction": dram,
        "sm_active_fraction": sm,
        "power_capped_fraction": capped,
    }
    frame = pl.DataFrame([row], schema=dict.fromkeys(row, pl.Float64))
    assert frame.select(find_bound().alias("bound"))["bound"][0] == bound
    assert bound is None or bound in BOUNDS
