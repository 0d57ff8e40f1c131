"""One GPU in the live view: its power readings and its progress become a `GpuView`."""

from dataclasses import replace
from typing import Any

import polars as pl

from runner.analysis.energy.trace import integrate_power
from runner.results.live import GpuView
from runner.results.tables import POWER

HISTORY_S = 60
_SECOND_NS = 1_000_000_000
_EDGE_NS = 200_000_000


class LiveGpu:
    """Holds one GPU's view, its recent power, and the progress of the window that is open on it."""

    def __init__(self, view: GpuView) -> None:
        self._view = view
        self._power = pl.DataFrame(schema=POWER)
        self._window_start_ns: int | None = None
        self._progress_ns = 0
        self._num_tokens = 0

    def add_power(self, batch: pl.DataFrame) -> None:
        """Take the readings of one second: [num_readings] rows of `tables.POWER`."""
        power = pl.concat([self._power, batch])
        newest_ns = power["time_ns"].max()
        if not isinstance(newest_ns, int):
            return
        # An open window is kept whole, for its joules. Before it, the sparkline shows the last minute alone.
        oldest_ns = newest_ns - HISTORY_S * _SECOND_NS
        if self._window_start_ns is not None:
            oldest_ns = min(oldest_ns, self._window_start_ns - _EDGE_NS)
        self._power = power.filter(pl.col("time_ns") >= oldest_ns)

    def update(self, changes: dict[str, Any]) -> None:
        """Change fields of the view. A new phase ends the window that was open."""
        if "phase" in changes:
            self._window_start_ns, self._num_tokens = None, 0
            changes = changes | {"num_requests_done": 0}
        self._view = replace(self._view, **changes)

    def report_progress(self, time_ns: int, window_start_ns: int, num_requests: int, num_tokens: int) -> None:
        """Take the progress of the open window at an instant.

        Args:
            num_tokens: output tokens, or prompt tokens of log-likelihoods.
        """
        self._window_start_ns, self._progress_ns, self._num_tokens = window_start_ns, time_ns, num_tokens
        self._view = replace(self._view, num_requests_done=num_requests)

    def count_trial(self) -> None:
        """Count a trial that is written."""
        self._view = replace(self._view, num_trials_done=self._view.num_trials_done + 1)

    def draw(self) -> GpuView:
        """Return the GPU's view at this instant."""
        changes = self._draw_power()
        for name in ("sm_clock_mhz", "temperature_c"):
            values = self._power[name].drop_nulls()
            if len(values):
                changes[name] = values[-1]
        return replace(self._view, **changes, **self._draw_window())

    def _draw_power(self) -> dict[str, Any]:
        samples = self._power.drop_nulls("power_w")
        newest_ns = samples["time_ns"].max()
        if not isinstance(newest_ns, int):
            return {}
        seconds = (
            samples.filter(pl.col("time_ns") > newest_ns - HISTORY_S * _SECOND_NS)
            .group_by(seconds_ago=(newest_ns - pl.col("time_ns")) // _SECOND_NS)
            .agg(pl.col("power_w").mean())
            .sort("seconds_ago", descending=True)["power_w"]
        )
        return {"power_history_w": tuple(seconds), "power_w": seconds[-1]}

    def _draw_window(self) -> dict[str, Any]:
        """Return the rates of the open window so far.

        Power arrives up to a second late. The mean power so far stands for that second.
        """
        start_ns, now_ns = self._window_start_ns, self._progress_ns
        if start_ns is None or now_ns <= start_ns or not self._num_tokens:
            return {"tokens_per_s": None, "joules_per_token": None}
        window_s = (now_ns - start_ns) * 1e-9
        samples = self._power.filter(pl.col("time_ns").is_between(start_ns, now_ns), pl.col("power_w").is_not_null())
        joules_per_token = None
        if samples.height >= 2:
            first_ns, last_ns = samples["time_ns"][0], samples["time_ns"][-1]
            covered_j = integrate_power(samples, first_ns, last_ns, max_gap_s=float("inf"))
            joules_per_token = covered_j / ((last_ns - first_ns) * 1e-9) * window_s / self._num_tokens
        return {"tokens_per_s": self._num_tokens / window_s, "joules_per_token": joules_per_token}
