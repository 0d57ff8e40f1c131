"""What a trial's work costs: its mean power, and joules per token and per request.

The window's energy, its work and its times enter; `EnergyCosts` leave. Next: the trial's row.
"""

from dataclasses import dataclass

from runner.analysis.window.times import Times
from runner.analysis.window.work import Work
from runner.spec.request import RequestKind


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyCosts:
    """The columns of `tables.TRIALS` that divide the window's energy; None where unknown."""

    idle_power_w: float | None
    mean_power_w: float | None = None
    energy_above_idle_j: float | None = None
    joules_per_output_token: float | None = None
    joules_per_prompt_token: float | None = None
    joules_per_request: float | None = None
    energy_delay_product_js: float | None = None


def divide_energy(
    energy_j: float | None, *, idle_power_w: float | None, work: Work, times: Times, request_kind: RequestKind
) -> EnergyCosts:
    """Return what each second, token and request costs.

    Energy counts per output token where something is generated, and per prompt token for log-likelihoods.

    Args:
        energy_j: the window's energy; None where it is unknown, and so is everything but the idle power.
    """
    if energy_j is None:
        return EnergyCosts(idle_power_w=idle_power_w)
    generates = request_kind == "generate"
    per_request_j = energy_j / work.num_sound_requests if work.num_sound_requests else None
    latency_s = times.latency_s_p50
    return EnergyCosts(
        idle_power_w=idle_power_w,
        mean_power_w=energy_j / times.duration_s if times.duration_s > 0 else None,
        energy_above_idle_j=energy_j - idle_power_w * times.duration_s if idle_power_w is not None else None,
        joules_per_output_token=energy_j / work.num_output_tokens if generates and work.num_output_tokens else None,
        joules_per_prompt_token=energy_j / work.num_prompt_tokens if not generates and work.num_prompt_tokens else None,
        joules_per_request=per_request_j,
        energy_delay_product_js=per_request_j * latency_s if per_request_j and latency_s is not None else None,
    )
