"""Compare the GPU model with every published row and point.

    python scripts/gpu_model_errors.py

Rows of reference/*.csv enter, predictions and errors leave. `fit_gpu_model.py` and the tests use the same functions.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from runner.physics.gpu_model import GpuModel, StepOutcome, load_gpu_model
from runner.physics.shape import ModelShape, StepWork, decode_work, get_shape, prefill_work
from runner.spec.operating_point import OperatingPoint

REFERENCE = Path(__file__).parents[1] / "reference"

RTX5090_SHAPE = "llama-3.1-8b-fp8"
"""The grid does not name its model. The bytes of this shape at 91 % of the bandwidth give the grid's memory time."""
RTX5090_NUM_REQUESTS = 6
RTX5090_NUM_CONTEXT_TOKENS = 500

MAX_NUM_BATCHED_TOKENS = 8192

# Decoding of ~4B models on an H200, 1980 -> 780 MHz (arXiv 2605.11999): watts at 1980, watts saved.
PUBLISHED_SAVINGS_W = ((137.0, 47.0), (300.0, 90.0))
PUBLISHED_LARGEST_SAVING = 0.32
"""The share of decoding's energy that the best clock saves."""
PUBLISHED_SHAPE = "qwen3-4b"
PUBLISHED_LOW_MHZ = 780
PUBLISHED_LOCK_MHZ, PUBLISHED_CAPPED_MHZ = 1830, 1500
"""The lock, and about what the clock fell to, under a load that meets the H200's limit of 700 W."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured row. `predict` returns the seconds, watts and SM clock that a GPU model gives for it."""

    label: str
    point: OperatingPoint
    time_s: float
    """Time of a decode step, or of a request where prefill was measured."""
    power_w: float
    sm_clock_mhz: float
    predict: Callable[[GpuModel], tuple[float, float, float]]

    @property
    def energy_j(self) -> float:
        return self.time_s * self.power_w


def h200_rows() -> list[Row]:
    """Return the rows of decoding alone and prefill alone at the default clock."""
    rows = []
    for record in _read("h200_steady.csv"):
        shape = get_shape(record["model_shape"])
        num_requests, num_prompt_tokens = int(record["concurrency"]), int(record["num_context_tokens"])
        if record["phase"] == "decode":
            # During a request the context grows from the prompt to the prompt and the output.
            work = decode_work(num_requests, num_prompt_tokens + int(record["num_output_tokens"]) / 2)
            predict = _decoding(shape, work, OperatingPoint())
        else:
            predict = _prefilling(shape, num_requests, num_prompt_tokens)
        rows.append(
            Row(
                label=f"{record['model_shape']} {record['phase']} {num_requests} x {num_prompt_tokens}",
                point=OperatingPoint(),
                time_s=float(record["ms_per_step_or_request"]) / 1e3,
                power_w=float(record["mean_power_w"]),
                sm_clock_mhz=float(record["sm_clock_mhz_median"]),
                predict=predict,
            )
        )
    return rows


def rtx5090_rows() -> list[Row]:
    """Return the rows of decoding over the grid of clocks, without those whose memory lock slipped."""
    shape = get_shape(RTX5090_SHAPE)
    work = decode_work(RTX5090_NUM_REQUESTS, RTX5090_NUM_CONTEXT_TOKENS)
    rows = []
    for record in _read("rtx5090_clock_grid.csv"):
        mem_clock_mhz, sm_clock_mhz = int(record["mem_clock_mhz"]), int(record["sm_clock_mhz"])
        if mem_clock_mhz == 405 and sm_clock_mhz >= 765:
            continue
        point = OperatingPoint(sm_clock_mhz=sm_clock_mhz, mem_clock_mhz=mem_clock_mhz)
        rows.append(
            Row(
                label=f"memory {mem_clock_mhz} SM {sm_clock_mhz}",
                point=point,
                time_s=RTX5090_NUM_REQUESTS / float(record["narrative_output_tokens_per_s"]),
                power_w=float(record["mean_power_w"]),
                sm_clock_mhz=sm_clock_mhz,
                predict=_decoding(shape, work, point),
            )
        )
    return rows


def _read(name: str) -> list[dict[str, str]]:
    with (REFERENCE / name).open() as file:
        return list(csv.DictReader(file))


def _decoding(shape: ModelShape, work: StepWork, point: OperatingPoint) -> Callable[[GpuModel], tuple[float, ...]]:
    def predict(gpu: GpuModel) -> tuple[float, float, float]:
        outcome = gpu.step(shape, work, point)
        return outcome.duration_s, outcome.power_w, outcome.sm_clock_mhz

    return predict


def _prefilling(
    shape: ModelShape, num_requests: int, num_prompt_tokens: int
) -> Callable[[GpuModel], tuple[float, ...]]:
    """Predict batches of requests that start together and make one token each. A new batch follows each batch."""
    num_steps = -(-num_requests * num_prompt_tokens // MAX_NUM_BATCHED_TOKENS)
    whole = prefill_work(num_requests, num_prompt_tokens)
    work = StepWork(
        num_prefill_tokens=whole.num_prefill_tokens // num_steps,
        num_decode_tokens=0,
        num_attended_tokens=whole.num_attended_tokens // num_steps,
        num_kv_tokens=whole.num_kv_tokens // num_steps,
        num_logit_rows=max(whole.num_logit_rows // num_steps, 1),
    )

    def predict(gpu: GpuModel) -> tuple[float, float, float]:
        step = gpu.step(shape, work, OperatingPoint())
        waiting_s = gpu.turnaround_s + gpu.admission_s * (num_requests - 1)
        working_s = num_steps * step.duration_s
        energy_j = working_s * step.power_w + waiting_s * gpu.idle_power_w()
        return (working_s + waiting_s) / num_requests, energy_j / (working_s + waiting_s), step.sm_clock_mhz

    return predict


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Relative errors (predicted / measured - 1) of a GPU model, in the order of the rows."""

    time: list[float]
    throughput: list[float]
    power: list[float]
    energy: list[float]
    sm_clock: list[float]


def errors(gpu: GpuModel, rows: list[Row]) -> Errors:
    """Return the errors of a GPU model over measured rows."""
    predictions = [row.predict(gpu) for row in rows]
    return Errors(
        time=[t / row.time_s - 1 for row, (t, _, _) in zip(rows, predictions, strict=True)],
        throughput=[row.time_s / t - 1 for row, (t, _, _) in zip(rows, predictions, strict=True)],
        power=[p / row.power_w - 1 for row, (_, p, _) in zip(rows, predictions, strict=True)],
        energy=[t * p / row.energy_j - 1 for row, (t, p, _) in zip(rows, predictions, strict=True)],
        sm_clock=[f / row.sm_clock_mhz - 1 for row, (_, _, f) in zip(rows, predictions, strict=True)],
    )


def excess_at_model_optimum(gpu: GpuModel, rows: list[Row]) -> float:
    """Return how far the measured energy at the model's optimum lies above the least measured one, as a fraction."""
    best = min(rows, key=lambda row: row.predict(gpu)[0] * row.predict(gpu)[1])
    return best.energy_j / min(row.energy_j for row in rows) - 1


def decoding_at(gpu: GpuModel, sm_clock_mhz: int) -> StepOutcome:
    work = decode_work(1, 1000)
    return gpu.step(get_shape(PUBLISHED_SHAPE), work, OperatingPoint(sm_clock_mhz=sm_clock_mhz))


def host_paced_saving_w(gpu: GpuModel, power_w: float) -> float:
    """Return the watts that an engine saves at the low clock, where its host sets the pace.

    Args:
        power_w: what it draws at the high clock.
    """
    high_mhz = gpu.sm_clocks_mhz[-1]

    def above_idle_j(sm_clock_mhz: int) -> float:
        step = decoding_at(gpu, sm_clock_mhz)
        return (step.power_w - gpu.idle_power_w(sm_clock_mhz)) * step.duration_s

    period_s = above_idle_j(high_mhz) / (power_w - gpu.idle_power_w(high_mhz))
    return power_w - gpu.idle_power_w(PUBLISHED_LOW_MHZ) - above_idle_j(PUBLISHED_LOW_MHZ) / period_s


def largest_saving(gpu: GpuModel) -> float:
    """Return the share of decoding's energy that its best clock saves, where the host sets no pace."""
    energies_j = [step.duration_s * step.power_w for step in (decoding_at(gpu, mhz) for mhz in gpu.sm_clocks_mhz)]
    return 1 - min(energies_j) / energies_j[-1]


def capped_lock_mhz(gpu: GpuModel) -> int:
    """Return the SM clock of full prefill steps of a 7B shape under the published lock."""
    work = prefill_work(4, 2048)
    return gpu.step(get_shape("mistral-7b"), work, OperatingPoint(sm_clock_mhz=PUBLISHED_LOCK_MHZ)).sm_clock_mhz


def main() -> None:
    for gpu, rows in ((load_gpu_model("rtx5090"), rtx5090_rows()), (load_gpu_model("h200"), h200_rows())):
        found = errors(gpu, rows)
        print(f"\n{gpu.name}: predicted / measured - 1, %\n{'':34}   time   rate  power energy  clock")
        columns = (found.time, found.throughput, found.power, found.energy, found.sm_clock)
        for row, *values in zip(rows, *columns, strict=True):
            print(f"{row.label:34}" + "".join(f"{value:+7.1%}"[:-1].rjust(7) for value in values))
        print(f"{'median of the magnitude':34}" + "".join(f"{median(map(abs, c)):7.1%}" for c in columns))
        print(f"{'largest magnitude':34}" + "".join(f"{max(map(abs, c)):7.1%}" for c in columns))
    excess = excess_at_model_optimum(load_gpu_model("rtx5090"), rtx5090_rows())
    print(f"\nRTX 5090: measured energy at the model's optimum above the grid's least: {excess:.1%}")
    h200 = load_gpu_model("h200")
    slowdown = decoding_at(h200, PUBLISHED_LOW_MHZ).duration_s / decoding_at(h200, h200.sm_clocks_mhz[-1]).duration_s
    print(f"H200: {PUBLISHED_SHAPE} decodes {slowdown - 1:.1%} slower at {PUBLISHED_LOW_MHZ} MHz")
    for power_w, saved_w in PUBLISHED_SAVINGS_W:
        saving_w = host_paced_saving_w(h200, power_w)
        print(f"H200: host-paced at {power_w:.0f} W it saves {saving_w:.1f} W (published {saved_w:.0f})")
    print(f"H200: its best clock saves {largest_saving(h200):.1%} (published: up to {PUBLISHED_LARGEST_SAVING:.0%})")
    lock = f"locked to {PUBLISHED_LOCK_MHZ} MHz, capped prefill runs at {capped_lock_mhz(h200)}"
    print(f"H200: {lock} (published: about {PUBLISHED_CAPPED_MHZ})")


if __name__ == "__main__":
    main()
