"""What the requests of a window got of what was promised: goodput, attainment and the energy of a good request.

A `Measurement` and its energy enter, a `Service` leaves. Next: the trial's row.
"""

from dataclasses import dataclass

from runner.results.measurement import Measurement
from runner.spec.request import Completion
from runner.spec.serving.slo import Slo


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """The columns of `tables.TRIALS` that an SLO adds; None without an SLO, or where unknown."""

    good_requests_per_s: float | None = None
    slo_attainment_fraction: float | None = None
    joules_per_good_request: float | None = None
    joules_per_good_output_token: float | None = None
    capacity_per_s: float | None = None


def describe_service(measurement: Measurement, energy_j: float | None) -> Service:
    """Return how many requests kept the SLO, and what each of them cost. A failed request keeps nothing.

    Args:
        energy_j: the window's energy; None where it is unknown.
    """
    slo, counted = measurement.identity.slo, measurement.counted
    duration_s = (measurement.end_ns - measurement.start_ns) * 1e-9
    if slo is None or not counted or duration_s <= 0:
        return Service(capacity_per_s=measurement.capacity_per_s)
    good = [completion for completion in counted if keeps_slo(completion, slo)]
    num_tokens = sum(completion.num_output_tokens for completion in good)
    return Service(
        good_requests_per_s=len(good) / duration_s,
        slo_attainment_fraction=len(good) / len(counted),
        joules_per_good_request=energy_j / len(good) if energy_j is not None and good else None,
        joules_per_good_output_token=energy_j / num_tokens if energy_j is not None and num_tokens else None,
        capacity_per_s=measurement.capacity_per_s,
    )


def keeps_slo(completion: Completion, slo: Slo) -> bool:
    """Return whether a request ended well and kept every promise. A log-likelihood has an end-to-end latency only."""
    queued_ns, first_ns, last_ns = completion.queued_ns, completion.first_token_ns, completion.last_token_ns
    if completion.error is not None or queued_ns is None or first_ns is None or last_ns is None:
        return False
    decoded = completion.num_output_tokens - 1
    return slo.is_good(
        ttft_s=(first_ns - queued_ns) * 1e-9,
        tpot_s=(last_ns - first_ns) * 1e-9 / decoded if decoded > 0 else None,
        latency_s=(last_ns - queued_ns) * 1e-9,
    )
