"""vLLM's CPU worker, slowed down so that each step lasts as long as on the simulated GPU.

vLLM loads this module by name inside its engine process. The GPU model says how long a step lasts for the modelled
shape at the clocks in force, and the step is logged as the GPU's activity. Pacing outside the worker fails: the
engine's core runs ahead of a thread that sleeps around it.
"""

import time
from typing import Any

from runner.inference.vllm.core_compat import SchedulerOutput, VllmConfig, cpu_worker_class
from runner.inference.vllm.paced.pace import Pace, StepSchedule, WorkCounter
from runner.physics.gpu_model import load_gpu_model
from runner.physics.gpu_state import GpuState
from runner.physics.shape import StepWork, get_shape


class PacedWorker(cpu_worker_class()):  # type: ignore[misc]
    """Executes each step on the CPU and ends it when the simulated GPU would."""

    def __init__(self, vllm_config: VllmConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(vllm_config, *args, **kwargs)
        if vllm_config.parallel_config.world_size > 1:
            raise ValueError("a simulated GPU paces one worker; leave tensor and pipeline parallelism at 1")
        pace = Pace.from_additional_config(vllm_config.additional_config)
        self._gpu_model = load_gpu_model(pace.gpu_model)
        self._modelled_shape = get_shape(pace.modelled_shape)
        self._state = GpuState(pace.state_dir)
        self._work = WorkCounter()
        self._schedule = StepSchedule()
        self._epoch_offset_ns = 0
        self._due_ns: int | None = None

    def execute_model(self, scheduler_output: SchedulerOutput) -> Any:
        """Run the model. A step that needs no separate sampling ends here."""
        self._work.forget(scheduler_output.finished_req_ids)
        is_first_work = self._work.is_empty
        work = self._work.count(scheduler_output)
        if scheduler_output.total_num_scheduled_tokens:
            self._due_ns = self._begin_step(work, is_first_work=is_first_work)
        output = super().execute_model(scheduler_output)
        if output is not None:
            self._end_step()
        return output

    def sample_tokens(self, grammar_output: Any) -> Any:
        """Sample the next tokens. The step ends here."""
        output = super().sample_tokens(grammar_output)
        self._end_step()
        return output

    def start_pace(self) -> None:
        """Begin a run: the schedule starts with its first step."""
        self._schedule = StepSchedule()

    def start_pace_of_arrivals(self) -> None:
        """Begin a run whose requests arrive at a rate."""
        self._schedule = StepSchedule(waits_for_arrivals=True)

    def read_pace_lost_s(self) -> float:
        """Return the seconds by which the run's real steps outlasted the GPU's."""
        return self._schedule.lost_s

    def _begin_step(self, work: StepWork, *, is_first_work: bool) -> int:
        """Log what the GPU does in this step; returns when it is done, in ns on the host's monotonic clock."""
        now_ns = time.monotonic_ns()
        start_ns = self._schedule.begin(now_ns, is_first_work=is_first_work)
        if start_ns == now_ns:
            # Kept while steps follow each other without a gap, so that their logged intervals do too.
            self._epoch_offset_ns = time.time_ns() - time.monotonic_ns()
        start_epoch_ns = start_ns + self._epoch_offset_ns
        activity = self._state.execute_step(self._gpu_model, self._modelled_shape, work, start_epoch_ns)
        # Logged at the beginning, so that a power reading during the step finds it.
        self._state.log_activity([activity])
        return start_ns + activity.end_ns - activity.start_ns

    def _end_step(self) -> None:
        if self._due_ns is None:
            return
        time.sleep(self._schedule.end(self._due_ns, time.monotonic_ns()))
        self._due_ns = None
