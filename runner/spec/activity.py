"""How busy the units of a GPU were. Hardware reads it, the row of a trial keeps it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitActivity:
    """Columns of `tables.TRIALS`: shares by the GPU's own counters; None where the GPU has no counter."""

    tensor_active_fraction: float | None = None
    """Share of the time, over all SMs, in which their tensor cores computed."""
    dram_active_fraction: float | None = None
    """Share of the memory's peak bandwidth."""
    sm_active_fraction: float | None = None
    """Share of the time, over all SMs, in which they had work."""
    activity_reason: str | None = None
    """Why some or all are None."""
