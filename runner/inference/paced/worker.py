"""vLLM's CPU worker, as slow as a GPU that does not exist.

vLLM loads this module by name inside its engine process. A step lasts as long as the GPU model says that it would
last for the twin's shape at the clocks in force, and is logged as the GPU's activity. Pacing anywhere else fails: the
engine core runs ahead of whoever sleeps around it.
"""

import time
from typing import Any

from vllm.v1.worker.cpu_worker import CPUWorker

from runner.inference.paced.pace import Pace, StepSchedule, WorkCounter
from runner.physics.gpu_model import load_gpu_model
from runner.physics.gpu_state import GpuState
from runner.physics.shape import StepWork, get_shape


class PacedWorker(CPUWorker):  # type: ignore[misc]
    """Executes steps on the CPU and ends each when the GPU would."""

    def __init__(self, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(vllm_config, *args, **kwargs)
        if vllm_config.parallel_config.world_size > 1:
            raise ValueError("a simulated GPU paces one worker; leave tensor and pipeline parallelism at 1")
        pace = Pace.from_additional_config(vllm_config.additional_config)
        self._gpu_model = load_gpu_model(pace.gpu_model)
        self._twin = get_shape(pace.twin)
        self._state = GpuState(pace.state_dir)
        self._work = WorkCounter()
        self._schedule = StepSchedule()
        self._epoch_offset_ns = 0
        self._due_ns: int | None = None

    def execute_model(self, scheduler_output: Any) -> Any:
        """Run the model; a step that needs no separate sampling ends here."""
        work = self._work.count(scheduler_output)
        if scheduler_output.total_num_scheduled_tokens:
            self._due_ns = self._begin_step(work)
        output = super().execute_model(scheduler_output)
        if output is not None:
            self._end_step()
        return output

    def sample_tokens(self, grammar_output: Any) -> Any:
        """Sample; the step ends here."""
        output = super().sample_tokens(grammar_output)
        self._end_step()
        return output

    def start_pace(self) -> None:
        """Begin a run: its first step starts when it starts."""
        self._schedule = StepSchedule()

    def read_pace_lost_s(self) -> float:
        """Return the seconds by which the run's real steps outlasted the GPU's."""
        return self._schedule.lost_s

    def _begin_step(self, work: StepWork) -> int:
        """Log what the GPU does in this step; returns when it will be done, on the monotonic clock."""
        now_ns = time.monotonic_ns()
        start_ns = self._schedule.begin(now_ns)
        if start_ns == now_ns:
            # Kept while steps follow each other without a gap, so that their logged intervals do too.
            self._epoch_offset_ns = time.time_ns() - time.monotonic_ns()
        start_epoch_ns = start_ns + self._epoch_offset_ns
        activity = self._state.execute_step(self._gpu_model, self._twin, work, start_epoch_ns)
        # Logged at the beginning: whoever reads the GPU's power meanwhile must find the step.
        self._state.log_activity([activity])
        return start_ns + activity.end_ns - activity.start_ns

    def _end_step(self) -> None:
        if self._due_ns is None:
            return
        time.sleep(self._schedule.end(self._due_ns, time.monotonic_ns()))
        self._due_ns = None
