"""Realistic views for the display's tests: what an aggregator would publish at some moments of a sweep."""

import math
from dataclasses import replace

from runner.results.live import Event, GpuView, SweepView
from runner.spec.load import ClosedLoop

START_NS = 1_795_000_000_000_000_000


def event(at_s: float, message: str, *, level="info", kind="trial_finished") -> Event:
    return Event(time_ns=START_NS + round(at_s * 1e9), level=level, kind=kind, message=message)


def history(mean_w: float, *, num_seconds: int = 60, idle_w: float = 79.0) -> tuple[float, ...]:
    """Idle, then a rise, then a plateau that breathes."""
    rise = num_seconds // 4
    plateau = [mean_w * (1 + 0.06 * math.sin(i / 3)) for i in range(num_seconds - rise)]
    return (*[idle_w] * (rise - 2), 0.4 * mean_w, 0.8 * mean_w, *plateau)


def measuring_gpu(index: int = 0, *, simulated: bool = False) -> GpuView:
    return GpuView(
        gpu_uuid=f"GPU-{index}",
        label=str(index),
        name="NVIDIA H200",
        simulated=simulated,
        phase="measuring",
        model="meta-llama/Llama-3.2-1B",
        task="boolq",
        load=ClosedLoop(concurrency=16),
        sm_clock_mhz_requested=990,
        sm_clock_mhz=990,
        power_w=312.4,
        power_limit_w=700.0,
        temperature_c=54.0,
        power_history_w=history(312.4),
        tokens_per_s=2431.0,
        joules_per_token=0.1285,
        num_requests_done=418,
        num_trials_done=41,
    )


EVENTS = (
    event(1, "Sweep started: 120 trials in 6 blocks on 1 GPU", kind="sweep_started"),
    event(1.5, "12 trials were finished by an earlier run", kind="resumed"),
    event(43, "GPU 0 loaded meta-llama/Llama-3.2-1B in 41 s", kind="engine_loaded"),
    event(655, "boolq, 16 in flight at 1185 MHz: 0.131 J/token, 1,912 tokens/s"),
    event(
        691,
        "boolq, 16 in flight at 1980 MHz: clock_not_held, the median was 1845 MHz",
        level="warning",
        kind="trial_with_verdict",
    ),
    event(727, "boolq, 16 in flight at 345 MHz failed: no answer within 60 s", level="error", kind="trial_failed"),
    event(760, "boolq, 16 in flight at 780 MHz: 0.127 J/token, 1,830 tokens/s"),
)

ONE_SIMULATED_GPU = SweepView(
    name="clocks-1b",
    simulated=True,
    run_directory="runs/clocks-1b",
    num_trials=120,
    num_done=42,
    num_resumed=12,
    num_failed=1,
    num_with_verdicts=3,
    start_ns=START_NS,
    elapsed_s=774.0,
    remaining_s=1391.0,
    energy_j=148_200.0,
    gpus=(measuring_gpu(simulated=True),),
    events=EVENTS,
)

TWO_GPUS = replace(
    ONE_SIMULATED_GPU,
    simulated=False,
    gpus=(
        replace(
            measuring_gpu(0),
            sm_clock_mhz_requested=1980,
            sm_clock_mhz=1845,
            power_w=697.0,
            power_history_w=history(690.0),
        ),
        replace(
            measuring_gpu(1),
            phase="loading",
            model="mistralai/Mistral-7B-v0.3",
            task="synthetic-512-128",
            load=ClosedLoop(concurrency=64),
            sm_clock_mhz_requested=None,
            sm_clock_mhz=1980,
            power_w=124.0,
            power_history_w=(*history(260.0, num_seconds=20), 124.0, 124.0, 124.0),
            temperature_c=41.0,
            tokens_per_s=None,
            joules_per_token=None,
            num_requests_done=0,
        ),
    ),
)

_PHASES = ("measuring", "measuring", "settling", "measuring", "warming up", "closing", "lost", "idle")
EIGHT_GPUS = replace(
    ONE_SIMULATED_GPU,
    name="all-models",
    run_directory="runs/all-models",
    simulated=False,
    num_trials=1200,
    num_done=731,
    elapsed_s=17_420.0,
    remaining_s=11_040.0,
    energy_j=9_731_000.0,
    gpus=tuple(
        replace(
            measuring_gpu(i),
            phase=phase,
            sm_clock_mhz_requested=None if i == 3 else 1980 - 225 * i,
            sm_clock_mhz=1980 - 225 * i,
            power_w=620.0 - 55 * i,
            power_history_w=history(620.0 - 55 * i, num_seconds=60 - 6 * i),
            joules_per_token=0.1285 if phase == "measuring" else None,
            tokens_per_s=12_431.0 - 900 * i if phase == "measuring" else None,
        )
        for i, phase in enumerate(_PHASES)
    ),
)

STARTING = SweepView(
    name="clocks-1b",
    simulated=True,
    run_directory="runs/clocks-1b",
    num_trials=120,
    start_ns=START_NS,
    elapsed_s=3.0,
    gpus=(
        GpuView(gpu_uuid="SIM-0", label="0", name="NVIDIA H200 (simulated)", simulated=True),
        GpuView(
            gpu_uuid="SIM-1",
            label="1",
            name="NVIDIA H200 (simulated)",
            simulated=True,
            phase="loading",
            model="EleutherAI/gpt-neo-125m",
        ),
    ),
    events=(event(1, "Sweep started: 120 trials in 6 blocks on 2 GPUs", kind="sweep_started"),),
)

FINISHED = replace(
    ONE_SIMULATED_GPU,
    num_done=120,
    num_failed=4,
    num_with_verdicts=7,
    elapsed_s=2_170.0,
    remaining_s=0.0,
    energy_j=431_700.0,
    gpus=(
        replace(
            measuring_gpu(simulated=True),
            phase="idle",
            model=None,
            task=None,
            load=None,
            sm_clock_mhz_requested=None,
            sm_clock_mhz=345,
            power_w=79.0,
            power_history_w=(*history(312.0, num_seconds=48), *[79.0] * 12),
            tokens_per_s=None,
            joules_per_token=None,
            num_trials_done=108,
        ),
    ),
    events=(
        *EVENTS,
        event(2164, "GPU 0: clocks put back to the GPU's default", kind="clocks_restored"),
        event(2170, "Sweep finished: 116 trials ok, 4 failed", level="warning", kind="sweep_finished"),
    ),
)
