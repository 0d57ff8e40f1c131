"""The operating-system side of a vLLM engine: its environment, its processes and what they print."""

import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ENVIRONMENT = {
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a forked child would inherit threads and locks of this process
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # two engines may share the cores
}
PACED_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # a tiny model's threads would wait for each other longer than they compute
    "TORCH_COMPILE_DISABLE": "1",  # a step that compiles takes seconds
}
_WATCH_PERIOD_S = 0.2


@contextmanager
def default_environment(*defaults: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the time of a block. Variables that the user has set stay as they are.

    vLLM reads them when it is imported and while an engine opens. The engine's processes inherit them.
    """
    added = {name: value for default in defaults for name, value in default.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


class EngineProcesses:
    """The processes that one engine started: children of this process and all their descendants."""

    def __init__(self) -> None:
        self._earlier = {child.pid for child in multiprocessing.active_children()}
        self._found: dict[int, psutil.Process] = {}

    def find(self) -> None:
        """Take note of the processes started since construction. `end` ends all that were ever found."""
        for child in multiprocessing.active_children():
            if child.pid is None or child.pid in self._earlier:
                continue
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(child.pid)
                for found in (process, *process.children(recursive=True)):
                    self._found.setdefault(found.pid, found)

    @property
    def ids(self) -> list[int]:
        """Ids of those that still run."""
        return [process.pid for process in self._found.values() if _is_alive(process)]

    @property
    def all_alive(self) -> bool:
        """Whether every process that was found still runs."""
        return all(_is_alive(process) for process in self._found.values())

    def kill(self) -> None:
        """Kill the processes that still run, without waiting."""
        for process in self._found.values():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def end(self, timeout_s: float) -> None:
        """Wait until they have ended, and kill those that still run after `timeout_s`."""
        self.find()
        _, alive = psutil.wait_procs([p for p in self._found.values() if _is_alive(p)], timeout=timeout_s)
        if alive:
            self.kill()
            psutil.wait_procs(alive, timeout=timeout_s)
        multiprocessing.active_children()  # reaps those that have ended


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def watch(
    processes: EngineProcesses, *, limit_s: float | None = None, on_death: Callable[[], None] | None = None
) -> Iterator[threading.Event]:
    """Watch an engine's processes for the time of a block that waits for them. The event is set when time runs out.

    vLLM has no time limit for opening an engine or for a step. If its core is killed, as the system does when memory
    runs out, vLLM waits for ever.

    Args:
        processes: killed when the block takes longer than `limit_s`.
        limit_s: None for no limit.
        on_death: wakes the thread that waits. Another thread calls it again and again while one of the processes is
            gone, since the block may wait for several answers.
    """
    out_of_time, done = threading.Event(), threading.Event()
    deadline = float("inf") if limit_s is None else time.monotonic() + limit_s

    def look() -> None:
        while not done.wait(_WATCH_PERIOD_S):
            if time.monotonic() > deadline:
                out_of_time.set()
                processes.find()
                processes.kill()
            if on_death is not None and not processes.all_alive:
                on_death()

    watcher = threading.Thread(target=look, name="engine-watcher", daemon=True)
    watcher.start()
    try:
        yield out_of_time
    finally:
        done.set()
        watcher.join()


class OutputLog:
    """A file for what an engine's processes print. Its end is quoted when an engine fails."""

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="sweep-engine-", suffix=".log")
        os.close(handle)
        self._path = Path(name)

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Send stdout and stderr into the file: this process's, and those of the children that it starts meanwhile."""
        saved = [(fd, os.dup(fd)) for fd in (1, 2)]
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            with self._path.open("ab", buffering=0) as file:
                for fd, _ in saved:
                    os.dup2(file.fileno(), fd)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for fd, copy in saved:
                os.dup2(copy, fd)
                os.close(copy)

    def tail(self, num_lines: int = 30) -> str:
        """Return the last lines; an empty text if there are none."""
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-num_lines:])

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)
