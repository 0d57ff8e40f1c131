"""Tells whether this machine was too busy for a paced engine, by a thread that only sleeps."""

import threading
import time
from typing import Self

import pytest

from runner.inference.vllm.paced.pace import MAX_LAG_NS

BUSY_S = 0.5
"""A machine that lost this much time was too busy for an engine to keep its pace."""


class Witness(threading.Thread):
    """Sleeps 10 ms at a time, and adds up delays that an engine could not make up for either."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.lost_s = 0.0
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.is_set():
            began_s = time.monotonic()
            time.sleep(0.01)
            late_s = time.monotonic() - began_s - 0.01
            if late_s > MAX_LAG_NS / 1e9:
                self.lost_s += late_s

    def excuse(self, what: object) -> None:
        """Skip the test on a machine that was too busy. On any other machine fail, and show `what`."""
        assert self.lost_s > BUSY_S, what
        pytest.skip(f"this machine kept no engine's pace: a thread that only sleeps was {self.lost_s:.1f} s too late")
