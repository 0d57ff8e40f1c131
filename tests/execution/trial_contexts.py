"""A trial context in virtual time: the simulated engine on a simulated GPU, with a real lease and a real sampler."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.execution.worker.trial.measure import TrialContext, measure_trial
from runner.execution.worker.trial.procedure import Procedure
from runner.hardware.clocks.lease import ClockLease
from runner.hardware.factory import open_nvml
from runner.hardware.host.meter import find_host_meter
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.sensors.probe import probe_sensors
from runner.hardware.sensors.sampler import PowerSampler
from runner.hardware.simulated.faults import FaultyNvml
from runner.inference.engine import Sampling
from runner.inference.simulated.engine import SimulatedEngine
from runner.physics.gpu_model import load_gpu_model
from runner.physics.gpu_state import GpuState
from runner.physics.shape import get_shape
from runner.results.measurement import Identity, Measurement, Placement
from runner.spec.load import ClosedLoop
from runner.spec.operating_point import OperatingPoint
from runner.spec.request import Request
from runner.tasks.synthetic import SyntheticTask
from runner.timebase import VirtualTime


@dataclass(frozen=True, kw_only=True)
class VirtualContext:
    """A trial context and its simulated GPU, whose exact energy is known."""

    context: TrialContext
    gpu: NvmlGpu
    time_source: VirtualTime
    nvml: FaultyNvml
    """It works without faults until a test adds to its `faults`."""
    state: GpuState
    """The state of the simulated GPU, whose conditions a test may change."""

    def exact_energy_j(self, start_ns: int, end_ns: int) -> float:
        """Return the integral of the GPU's true power, in J."""
        history = self.nvml.true_nvml.nvmlDeviceGetHandleByIndex(0).history
        return history.energy_j(end_ns) - history.energy_j(start_ns)

    def measure(self, requests: list[Request], identity: dict[str, Any] | None = None, **options: Any) -> Measurement:
        """Measure one trial. `options` change the defaults of the procedure."""
        asked = make_identity(**identity or {})
        if "idle_power_w" in options:
            self.context.idle_power_w[asked.operating_point] = options.pop("idle_power_w")
        procedure = {"min_window_s": 3.0, "num_warmup_requests": 4, "deadline_s": 600.0}
        known = Procedure.__dataclass_fields__
        hooks = {name: options.pop(name) for name in tuple(options) if name not in known}
        return measure_trial(
            self.context,
            asked,
            requests,
            Procedure(sampling=Sampling(), **procedure | options),
            **hooks,
        )


@contextmanager
def open_context(
    directory: Path,
    *,
    shape: str = "mistral-7b",
    on_batch: Any = None,
    gpu_request: str = "sim",
    host_root: Path | None = None,
) -> Iterator[VirtualContext]:
    """Open a trial context. The sensors of any but the usual GPU are probed first.

    Args:
        host_root: a tree of RAPL counters; none unless given.
    """
    time_source = VirtualTime()
    nvml = FaultyNvml(open_nvml(gpu_request, time_source, directory / "gpus"))
    gpu = NvmlGpu(nvml, 0, read_only=False)
    sensors = None if gpu_request == "sim" else probe_sensors(gpu, time_source)
    sampler = PowerSampler(gpu, time_source, on_batch=on_batch, sensors=sensors)
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=directory, guarded=False) as lease:
        sampler.start()
        state = GpuState(directory / "gpus" / gpu.info.uuid)
        context = TrialContext(
            engine=SimulatedEngine(
                shape=get_shape(shape), gpu_model=load_gpu_model(), state=state, time_source=time_source
            ),
            gpu=gpu,
            lease=lease,
            sampler=sampler,
            time_source=time_source,
            placement=make_placement(gpu.info.uuid),
            host=find_host_meter(time_source, root=host_root or directory / "no powercap"),
            engine_process_ids=frozenset(),
        )
        yield VirtualContext(context=context, gpu=gpu, time_source=time_source, nvml=nvml, state=state)
        sampler.stop()


def make_identity(
    *,
    concurrency: int = 8,
    sm_clock_mhz_requested: int | None = None,
    mem_clock_mhz_requested: int | None = None,
    power_limit_w_requested: float | None = None,
    **changes: Any,
) -> Identity:
    return Identity(
        **{
            "trial_id": "t0",
            "block_id": "b0",
            "model": "m",
            "task": "synthetic-128x64",
            "request_kind": "generate",
            "load": ClosedLoop(concurrency=concurrency),
            "operating_point": OperatingPoint(
                sm_clock_mhz=sm_clock_mhz_requested,
                mem_clock_mhz=mem_clock_mhz_requested,
                power_limit_w=power_limit_w_requested,
            ),
            "repeat": 0,
            "is_sentinel": False,
        }
        | changes
    )


def make_placement(gpu_uuid: str = "GPU-0", **changes: Any) -> Placement:
    return Placement(
        **{
            "gpu_uuids": (gpu_uuid,),
            "gpu_name": "Simulated H200",
            "host": "here",
            "fingerprint": "f",
            "simulated": True,
            "simulated_time_scale": 1.0,
        }
        | changes
    )


def make_requests(num_prompt_tokens: int = 128, num_output_tokens: int = 64, num_requests: int = 40) -> list[Request]:
    task = SyntheticTask(
        num_prompt_tokens=num_prompt_tokens, num_output_tokens=num_output_tokens, num_requests=num_requests, seed=0
    )
    return task.requests(None, max_model_len=4096, vocab_size=32000)
