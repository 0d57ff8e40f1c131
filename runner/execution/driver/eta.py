"""The remaining time of a run, from how long its trials and loads have taken. Live views enter, seconds leave."""

from runner.results.live import GpuPhase, SweepView

_LOADING: tuple[GpuPhase, ...] = ("starting", "loading")
_WORKING: tuple[GpuPhase, ...] = ("settling", "warming up", "measuring")


class RemainingTime:
    """Adds up the time that the GPUs of one run spend on loading models and on trials."""

    def __init__(self) -> None:
        self._elapsed_s = 0.0
        self._loading_s = self._working_s = 0.0
        self._num_loads = 0
        self._is_loading: dict[str, bool] = {}

    def estimate(
        self, view: SweepView, elapsed_s: float, *, num_done: int, num_left: int, num_models_waiting: int
    ) -> float | None:
        """Add the time since the last view, and return how many seconds are left; None before the first trial ends.

        Args:
            elapsed_s: seconds since this run began.
            num_done: trials that this run has finished.
            num_left: trials that it has not finished.
            num_models_waiting: models that no worker has loaded yet.
        """
        step_s, self._elapsed_s = elapsed_s - self._elapsed_s, elapsed_s
        for gpu in view.gpus:
            is_loading = gpu.phase in _LOADING
            self._num_loads += is_loading and not self._is_loading.get(gpu.gpu_uuid, False)
            self._is_loading[gpu.gpu_uuid] = is_loading
            self._loading_s += step_s * is_loading
            self._working_s += step_s * (gpu.phase in _WORKING)
        num_gpus = sum(gpu.phase != "lost" for gpu in view.gpus)
        if not num_done or not num_gpus:
            return None
        load_s = self._loading_s / max(self._num_loads, 1)
        return (self._working_s / num_done * num_left + load_s * num_models_waiting) / num_gpus
