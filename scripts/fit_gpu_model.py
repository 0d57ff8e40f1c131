"""Fit the GPU model's constants to reference/*.csv and to published points, and write runner/physics/gpu_models/*.json.

    python scripts/fit_gpu_model.py

The grid of the RTX 5090 gives the constants of overlap and voltage. The table of the H200, measured at the default
clock, gives the constants that depend on the work. Published points give the rest; docs/physics.md lists them.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import gpu_model_errors

from runner.physics.gpu_model import GpuModel, load_gpu_model

GPU_MODELS = Path(__file__).parents[1] / "runner" / "physics" / "gpu_models"

Bounds = dict[str, tuple[float, float, float]]
"""(least, start, most) by constant."""
Residuals = Callable[[GpuModel], list[float]]

POWER: Bounds = {
    "traffic_w": (0, 100, 600),
    "memory_w": (0, 100, 400),
}
# The grid has no idle row, so it cannot tell a busy GPU's watts from an idle one's: busy_w stays 0.
RTX5090: Bounds = POWER | {
    "bytes_per_s": (0.5e12, 1.6e12, 1.792e12),
    "host_s_per_step": (0, 1e-3, 3e-3),
    "sm_share_of_memory_time": (0, 1.0, 2),
    "overlap_exponent": (1, 3.5, 10),
    "mem_clock_exponent": (1, 1.05, 1.3),
    "voltage_floor": (0.5, 0.75, 0.95),
    "voltage_floor_clock": (0.3, 0.6, 0.9),
    "idle_low_w": (20, 50, 90),
    "idle_high_w": (30, 90, 200),
    "mem_idle_w": (0, 20, 50),
}
H200: Bounds = POWER | {
    "busy_w": (0, 60, 400),
    "flops_per_s": (300e12, 740e12, 989e12),
    "bytes_per_s": (2.5e12, 3.9e12, 4.8e12),
    "host_s_per_step": (0, 1e-3, 3e-3),
    "host_s_per_layer": (0, 1e-6, 5e-5),
    "host_s_per_decode_token": (0, 5e-6, 5e-5),
    "turnaround_s": (0, 6e-3, 3e-2),
    "admission_s": (0, 1e-3, 5e-3),
    "sm_share_of_memory_time": (0, 0.19, 1),
    "compute_w": (0, 420, 2000),
}


VALLEY_WEIGHT = 4.0


def grid_residuals(rows: list[gpu_model_errors.Row]) -> Residuals:
    """Return the errors of time and power, and those of energy near the least, where a sweep looks for its optimum."""
    least_j = min(row.energy_j for row in rows)
    weights = [VALLEY_WEIGHT if row.energy_j < 1.1 * least_j else 0.0 for row in rows]

    def residuals(gpu: GpuModel) -> list[float]:
        found = gpu_model_errors.errors(gpu, rows)
        near_valley = [weight * error for weight, error in zip(weights, found.energy, strict=True)]
        return found.time + found.power + near_valley

    return residuals


def table_residuals(rows: list[gpu_model_errors.Row]) -> Residuals:
    """Return the errors of time, power and the observed clock, and those at the published points."""

    def residuals(gpu: GpuModel) -> list[float]:
        found = gpu_model_errors.errors(gpu, rows)
        clock = [error if row.sm_clock_mhz < 1965 else 0.0 for row, error in zip(rows, found.sm_clock, strict=True)]
        return found.time + found.power + clock + published_residuals(gpu)

    return residuals


PUBLISHED_SLOWDOWN = 0.009
PUBLISHED_WEIGHT = 5
"""The two points must count beside 47 rows that cannot tell voltage from traffic."""


def published_residuals(gpu: GpuModel) -> list[float]:
    """Return the errors of the watts saved where the host sets the pace, and of the time lost where it does not.

    vLLM draws over 400 W for such a model. The published 137 to 300 W must come from an engine that waits for its host.
    A step of that engine costs the GPU the same joules, spread over a longer period that the clock does not change.
    """
    high, low = (
        gpu_model_errors.decoding_at(gpu, gpu.sm_clocks_mhz[-1]),
        gpu_model_errors.decoding_at(gpu, gpu_model_errors.PUBLISHED_LOW_MHZ),
    )
    residuals = [PUBLISHED_WEIGHT * (low.duration_s / high.duration_s - 1 - PUBLISHED_SLOWDOWN) / PUBLISHED_SLOWDOWN]
    for power_w, saved_w in gpu_model_errors.PUBLISHED_SAVINGS_W:
        residuals.append(PUBLISHED_WEIGHT * (gpu_model_errors.host_paced_saving_w(gpu, power_w) / saved_w - 1))
    return residuals


def fit(gpu: GpuModel, bounds: Bounds, residuals: Residuals) -> GpuModel:
    """Return the GPU with the constants in `bounds` fitted by bounded least squares, robust to outliers."""
    from scipy.optimize import least_squares

    # The fit needs power caps without jumps: a clock every MHz.
    smooth = replace(gpu, sm_clocks_mhz=tuple(range(gpu.sm_clocks_mhz[0], gpu.sm_clocks_mhz[-1] + 1)))
    least, start, most = zip(*bounds.values(), strict=True)
    scale = [max(value, 1e-3 * high) for value, high in zip(start, most, strict=True)]

    def with_constants(values: list[float]) -> GpuModel:
        named = {name: float(v * s) for name, v, s in zip(bounds, values, scale, strict=True)}
        return replace(smooth, **named)

    found = least_squares(
        lambda values: residuals(with_constants(values)),
        [value / s for value, s in zip(start, scale, strict=True)],
        bounds=([v / s for v, s in zip(least, scale, strict=True)], [v / s for v, s in zip(most, scale, strict=True)]),
        diff_step=1e-2,  # more than the small jumps of capped rows from clock to clock
        loss="soft_l1",
        f_scale=0.05,
    )
    fitted = with_constants(found.x)
    return replace(gpu, **{name: float(f"{getattr(fitted, name):.4g}") for name in bounds})


def write(gpu: GpuModel, name: str) -> None:
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in asdict(gpu).items()]
    (GPU_MODELS / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    rtx5090 = fit(load_gpu_model("rtx5090"), RTX5090, grid_residuals(gpu_model_errors.rtx5090_rows()))
    write(rtx5090, "rtx5090")
    shared = ("overlap_exponent", "voltage_floor", "voltage_floor_clock")
    h200 = replace(load_gpu_model("h200"), **{name: getattr(rtx5090, name) for name in shared})
    h200 = fit(h200, H200, table_residuals(gpu_model_errors.h200_rows()))
    write(h200, "h200")
    load_gpu_model.cache_clear()
    gpu_model_errors.main()


if __name__ == "__main__":
    main()
