"""What the board model says about every published row, beside what was measured.

    python scripts/board_errors.py

Rows of reference/*.csv and a board in, predictions and errors out. `fit_board.py` and the tests use the same functions.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from runner.physics.board import BoardModel, OperatingPoint, StepWork, load_board
from runner.physics.shape import ModelShape, decode_work, get_shape, prefill_work

REFERENCE = Path(__file__).parents[1] / "reference"

RTX5090_TWIN = "llama-3.1-8b-fp8"
"""The grid does not name its model; these bytes at 91 % of the board's bandwidth give the memory time it shows."""
RTX5090_NUM_REQUESTS = 6
RTX5090_NUM_CONTEXT_TOKENS = 500

MAX_NUM_BATCHED_TOKENS = 8192


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured row. `predict` returns (seconds, watts, SM clock) of a board."""

    label: str
    point: OperatingPoint
    time_s: float
    """Of a decode step; of a request where prefill was measured."""
    power_w: float
    sm_clock_mhz: float
    predict: Callable[[BoardModel], tuple[float, float, float]]

    @property
    def energy_j(self) -> float:
        return self.time_s * self.power_w


def h200_rows() -> list[Row]:
    """Decoding and prefill alone at the board's own clocks."""
    rows = []
    for record in _read("h200_steady.csv"):
        shape = get_shape(record["model_shape"])
        num_requests, num_prompt_tokens = int(record["concurrency"]), int(record["num_context_tokens"])
        if record["phase"] == "decode":
            # Over a request's life the context grows from the prompt to prompt and output.
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
    """Decoding over the grid of clocks; without the rows whose memory lock slipped."""
    shape = get_shape(RTX5090_TWIN)
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


def _decoding(shape: ModelShape, work: StepWork, point: OperatingPoint) -> Callable[[BoardModel], tuple[float, ...]]:
    def predict(board: BoardModel) -> tuple[float, float, float]:
        outcome = board.step(shape, work, point)
        return outcome.duration_s, outcome.power_w, outcome.sm_clock_mhz

    return predict


def _prefilling(
    shape: ModelShape, num_requests: int, num_prompt_tokens: int
) -> Callable[[BoardModel], tuple[float, ...]]:
    """All requests start together, make one token each, and are followed by as many more."""
    num_steps = -(-num_requests * num_prompt_tokens // MAX_NUM_BATCHED_TOKENS)
    whole = prefill_work(num_requests, num_prompt_tokens)
    work = StepWork(
        num_prefill_tokens=whole.num_prefill_tokens // num_steps,
        num_decode_tokens=0,
        num_attended_tokens=whole.num_attended_tokens // num_steps,
        num_kv_tokens=whole.num_kv_tokens // num_steps,
        num_logit_rows=max(whole.num_logit_rows // num_steps, 1),
    )

    def predict(board: BoardModel) -> tuple[float, float, float]:
        step = board.step(shape, work, OperatingPoint())
        waiting_s = board.turnaround_s + board.admission_s * (num_requests - 1)
        working_s = num_steps * step.duration_s
        energy_j = working_s * step.power_w + waiting_s * board.idle_power_w()
        return (working_s + waiting_s) / num_requests, energy_j / (working_s + waiting_s), step.sm_clock_mhz

    return predict


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Relative errors (predicted / measured - 1) of a board over rows, in the rows' order."""

    time: list[float]
    power: list[float]
    energy: list[float]
    sm_clock: list[float]


def errors(board: BoardModel, rows: list[Row]) -> Errors:
    """Compare a board with measured rows."""
    predictions = [row.predict(board) for row in rows]
    return Errors(
        time=[t / row.time_s - 1 for row, (t, _, _) in zip(rows, predictions, strict=True)],
        power=[p / row.power_w - 1 for row, (_, p, _) in zip(rows, predictions, strict=True)],
        energy=[t * p / row.energy_j - 1 for row, (t, p, _) in zip(rows, predictions, strict=True)],
        sm_clock=[f / row.sm_clock_mhz - 1 for row, (_, _, f) in zip(rows, predictions, strict=True)],
    )


def excess_at_model_optimum(board: BoardModel, rows: list[Row]) -> float:
    """Return measured energy where the model would go, over the least measured energy, less one."""
    best = min(rows, key=lambda row: row.predict(board)[0] * row.predict(board)[1])
    return best.energy_j / min(row.energy_j for row in rows) - 1


def main() -> None:
    for board, rows in ((load_board("rtx5090"), rtx5090_rows()), (load_board("h200"), h200_rows())):
        found = errors(board, rows)
        print(f"\n{board.name}: predicted / measured - 1, %\n{'':34}   time  power energy  clock")
        columns = (found.time, found.power, found.energy, found.sm_clock)
        for row, *values in zip(rows, *columns, strict=True):
            print(f"{row.label:34}" + "".join(f"{value:+7.1%}"[:-1].rjust(7) for value in values))
        print(f"{'median of the magnitude':34}" + "".join(f"{median(map(abs, c)):7.1%}" for c in columns))
        print(f"{'largest magnitude':34}" + "".join(f"{max(map(abs, c)):7.1%}" for c in columns))
    excess = excess_at_model_optimum(load_board("rtx5090"), rtx5090_rows())
    print(f"\nmeasured energy at the model's optimum above the grid's least: {excess:.1%}")


if __name__ == "__main__":
    main()
