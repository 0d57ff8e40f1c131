"""The state of GPUs in virtual time, lent to one worker at a time.

Such a GPU runs ahead of the wall clock, so the next run must not find its future. Places are numbered and used
again: nothing piles up, however often a run is killed.
"""

import fcntl
import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.physics.gpu_state import simulated_state_dir


@contextmanager
def borrow_virtual_state() -> Iterator[Path]:
    """Lend the first state folder that nobody holds, emptied of what its last holder left."""
    for number in itertools.count():
        directory = simulated_state_dir() / f"virtual-{number}"
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "holder.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            for gpu in directory.glob("GPU-*"):
                shutil.rmtree(gpu, ignore_errors=True)
            yield directory
            return
