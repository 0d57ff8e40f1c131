"""`make bench`: the benchmarks that need no GPU. Each prints a line, and the last one a table of accuracy.

benchmarks/throughput.py compares with `vllm bench throughput`. It needs a GPU and is run by itself.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory


def bench_plan() -> str:
    """Time from the sweep file of 100,000 trials to a plan with estimates. The goal is 2 s."""
    from runner.execution.driver.cluster import choose_gpus
    from runner.execution.preflight.plan import plan_sweep
    from runner.spec.sweep import parse_sweep
    from runner.spec.trial import expand_trials

    document = {
        "name": "large",
        "repeats": 20,
        "model": [{"id": f"m{k}"} for k in range(5)],
        "task": [{"name": "tiny_qa", "label": f"t{k}", "limit": 100 + k} for k in range(5)],
        "axes": {"concurrency": [1, 8, 32, 64, 128], "sm_clock": {"spaced": 40}},
    }
    _, gpus = choose_gpus("sim")
    start_s = time.perf_counter()
    sweep = parse_sweep(document)
    blocks = expand_trials(sweep)
    expanded_s = time.perf_counter() - start_s
    plan = plan_sweep(sweep, blocks, gpus, read_only=False, finished=frozenset())
    return (
        f"{len(plan.trials)} trials: expanded in {expanded_s:.2f} s, planned in {time.perf_counter() - start_s:.2f} s"
    )


def bench_simulated_engine() -> str:
    """Steps per second of the simulated engine."""
    from runner.inference.engine import Sampling
    from runner.inference.simulated.engine import SimulatedEngine
    from runner.physics.gpu_model import load_gpu_model
    from runner.physics.gpu_state import GpuState
    from runner.physics.shape import get_shape
    from runner.spec.load import ClosedLoop
    from runner.spec.request import Request
    from runner.timebase import VirtualTime

    with TemporaryDirectory() as folder:
        engine = SimulatedEngine(
            shape=get_shape("qwen2.5-32b"),
            gpu_model=load_gpu_model("h200"),
            state=GpuState(Path(folder)),
            time_source=VirtualTime(),
        )
        requests = [
            Request(
                request_id=str(k),
                sample_id=str(k),
                kind="generate",
                prompt_token_ids=(1,) * 64,
                num_context_tokens=64,
                max_output_tokens=128,
                ignore_eos=True,
            )
            for k in range(2000)
        ]
        start_s = time.perf_counter()
        run = engine.run(iter(requests), ClosedLoop(concurrency=16), Sampling())
        took_s = time.perf_counter() - start_s
    virtual_s = (run.end_ns - run.start_ns) * 1e-9
    return f"{len(run.steps) / took_s:,.0f} steps a second: {virtual_s:.0f} virtual seconds in {took_s:.2f}"


def bench_sampler() -> str:
    """Processor time of the sampler's thread and the simulated GPU, for a sample buffer and for polled sensors."""
    lines = [f"sensors of {kind}: {_sample(f'sim:h200+{kind}')}" for kind in ("h200", "h100", "a100")]
    return ("\n" + 19 * " ").join(lines)


def _sample(request: str) -> str:
    from runner.hardware.factory import open_gpu
    from runner.hardware.sensors.probe import probe_sensors
    from runner.hardware.sensors.sampler import PowerSampler
    from runner.timebase import WallTime

    with TemporaryDirectory() as folder:
        time_source = WallTime()
        gpu = open_gpu(request, 0, time_source, read_only=True, state_dir=Path(folder))
        sampler = PowerSampler(gpu, time_source, lambda _: None, probe_sensors(gpu, time_source))
        sampler.start()
        start_s = time.process_time()
        time.sleep(5.0)
        used_s = time.process_time() - start_s
        sampler.stop()
    stats = sampler.stats
    return (
        f"{used_s / 5.0:.2%} of a core; {stats.num_samples} samples, {stats.num_lost} lost, "
        f"late by {stats.max_lateness_s * 1e3:.1f} ms at worst"
    )


def bench_energy_parts() -> str:
    """Time of the calls that split a joule: the memory's power, activity counters, the host's counters."""
    from benchmarks.energy_parts import describe_costs

    return describe_costs("sim")


def bench_accuracy() -> str:
    """Energy by the sensors of every kind of GPU against the exact truth. Takes about a minute."""
    from benchmarks.accuracy import measure_profile, tabulate
    from runner.hardware.simulated.sensor_profiles import PROFILES

    return "of energy\n" + tabulate({profile: measure_profile(profile) for profile in PROFILES})


def bench_prompt_features() -> str:
    """Time for the features of 100,000 prompts."""
    from benchmarks.input_costs import describe_many

    return describe_many()


def bench_correlations() -> str:
    """Time for the correlations of a whole study."""
    from benchmarks.input_costs import correlate_study

    return correlate_study()


BENCHMARKS: dict[str, Callable[[], str]] = {
    "plan": bench_plan,
    "simulated engine": bench_simulated_engine,
    "power sampler": bench_sampler,
    "energy parts": bench_energy_parts,
    "prompt features": bench_prompt_features,
    "correlations": bench_correlations,
    "accuracy": bench_accuracy,
}


def main() -> None:
    """Run all benchmarks."""
    for name, benchmark in BENCHMARKS.items():
        print(f"{name:<18} {benchmark()}", flush=True)


if __name__ == "__main__":
    main()
