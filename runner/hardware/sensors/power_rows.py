"""The rows of the power table while a GPU is sampled: readings enter, frames of `tables.POWER` leave.

A row holds what was read at its instant and null elsewhere. Next: `sampler.py` fills them.
"""

import threading
from collections.abc import Callable, Sequence

import polars as pl

from runner.hardware.gpu import PowerReading, StateReading
from runner.results.tables import POWER

_Row = tuple[int, float | None, int | None, int | None, float | None, float | None, int | None, float | None]
"""A row of the power table without its gpu_uuid, which is the same in all of them."""
_COLUMNS = [name for name in POWER if name != "gpu_uuid"]


class PowerRows:
    """What was read of one GPU since it was last taken. Several threads may add and take.

    Args:
        gpu_uuid: the GPU.
        on_batch: takes a frame of the rows that were added since its last call. None: such frames are not made.
    """

    def __init__(self, gpu_uuid: str, on_batch: Callable[[pl.DataFrame], None] | None) -> None:
        self._gpu_uuid = gpu_uuid
        self._on_batch = on_batch
        self._lock = threading.Lock()
        self._rows: list[_Row] = []
        self._batch: list[_Row] = []

    def add_power(self, readings: Sequence[PowerReading]) -> None:
        """Add power readings, all of them before the next `take`."""
        self._add([(reading.time_ns, reading.power_w, None, None, None, None, None, None) for reading in readings])

    def add_state(self, state: StateReading) -> None:
        """Add clocks, temperature and throttle reasons, which are the column `event_reasons`."""
        reasons = None if state.throttle_reasons is None else int(state.throttle_reasons)
        values = (state.sm_clock_mhz, state.mem_clock_mhz, state.temperature_c)
        self._add([(state.time_ns, None, *values, None, reasons, None)])

    def add_counter(self, time_ns: int, counter_j: float) -> None:
        """Add a reading of the energy counter."""
        self._add([(time_ns, None, None, None, None, counter_j, None, None)])

    def add_memory_power(self, reading: PowerReading) -> None:
        """Add a reading of what the memory draws."""
        self._add([(reading.time_ns, None, None, None, None, None, None, reading.power_w)])

    def clear(self) -> None:
        """Forget what was not taken."""
        with self._lock:
            self._rows.clear()

    def take(self) -> pl.DataFrame:
        """Return everything since the last call: [num_rows] rows of `tables.POWER`, sorted by time_ns."""
        with self._lock:
            rows, self._rows = self._rows, []
        return self._make_frame(rows)

    def look_back(self, time_ns: int) -> pl.DataFrame:
        """Return what was read since an instant, and keep it for `take`: [num_rows] rows of `tables.POWER`."""
        with self._lock:
            rows = [row for row in self._rows if row[0] >= time_ns]
        return self._make_frame(rows)

    def send_batch(self) -> None:
        """Hand what is new to `on_batch`, where there is something new."""
        with self._lock:
            rows, self._batch = self._batch, []
        if rows and self._on_batch is not None:
            self._on_batch(self._make_frame(rows))

    def _add(self, rows: Sequence[_Row]) -> None:
        with self._lock:
            self._rows += rows
            if self._on_batch is not None:
                self._batch += rows

    def _make_frame(self, rows: Sequence[_Row]) -> pl.DataFrame:
        columns: dict[str, list[object]] = dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=False))
        columns["gpu_uuid"] = [self._gpu_uuid] * len(rows)
        return pl.DataFrame({name: columns.get(name, []) for name in POWER}, schema=POWER).sort("time_ns")
