"""Starts the client's process, gives it a run, and supplies it with requests."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

from runner.inference.engine import EngineError, EngineTimeoutError
from runner.inference.server.client.messages import Abort, Progress, Ready, RunOrder, RunReport, Supply, Wanted
from runner.spec.request import Request

CLIENT_MODULE = "runner.inference.server.client.program"
HANG_GRACE_S = 60.0
"""How long after its deadline a run may last before the client counts as hung."""
START_LIMIT_S = 120.0
_POLL_S = 1.0
_CLOSE_LIMIT_S = 5.0
_NUM_TAIL_CHARACTERS = 2000
Prepare = Callable[[Request], tuple[Request, str | None]]
"""Adds the prompt's text where the server takes no token ids."""


class ClientProcess:
    """A process that sends requests to a server. One thread uses it.

    Raises: EngineError: it does not start.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        root = str(Path(__file__).parents[4])  # the folder that holds the package `runner`
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", CLIENT_MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the driver, which ends a run in order
                env={**os.environ, "PYTHONPATH": paths},
                cwd="/",
            )
        self._connection = Connection(ours.detach())
        try:
            if not self._connection.poll(START_LIMIT_S) or not isinstance(self._connection.recv(), Ready):
                raise EngineTimeoutError("the client that sends the requests did not start in time")
        except (EOFError, OSError) as error:
            raise EngineError(f"the client that sends the requests did not start; {self._explain()}") from error

    @property
    def process_id(self) -> int:
        """The id of the process."""
        return self._process.pid

    def run(
        self,
        order: RunOrder,
        requests: Iterator[Request],
        prepare: Prepare,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> RunReport:
        """Carry out one run.

        Raises: EngineError: the client has died. EngineTimeoutError: it did not end within a minute of the deadline.
            What `requests` and `on_progress` raise; the run has been aborted then.
        """
        limit_s = None if order.deadline_s is None else time.monotonic() + order.deadline_s + HANG_GRACE_S
        try:
            self._connection.send(order)
            try:
                return self._attend(requests, prepare, on_progress, limit_s)
            except (EngineError, EOFError, OSError):
                raise
            except BaseException:
                self._connection.send(Abort("interrupted"))
                self._attend(iter(()), prepare, None, time.monotonic() + HANG_GRACE_S)
                raise
        except (EOFError, OSError) as error:
            raise EngineError(f"the client that sends the requests has died; {self._explain()}") from error

    def close(self) -> None:
        """End the process. May be called twice."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_LIMIT_S)
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _attend(
        self,
        requests: Iterator[Request],
        prepare: Prepare,
        on_progress: Callable[[int, int], None] | None,
        limit_s: float | None,
    ) -> RunReport:
        """Answer the client until its report comes.

        Args:
            limit_s: the last moment, on the host's monotonic clock.
        """
        while True:
            if not self._connection.poll(_POLL_S):
                if limit_s is not None and time.monotonic() > limit_s:
                    self._process.kill()
                    raise EngineTimeoutError("the client that sends the requests did not end in time and was killed")
                continue
            message = self._connection.recv()
            match message:
                case Wanted():
                    wanted = islice(requests, message.num_requests)
                    self._connection.send(Supply(tuple(prepare(request) for request in wanted)))
                case Progress():
                    if on_progress is not None:
                        on_progress(message.num_requests, message.num_output_tokens)
                case RunReport():
                    return message

    def _explain(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_LIMIT_S)
        self._errors.seek(0)
        tail = self._errors.read().decode(errors="replace")[-_NUM_TAIL_CHARACTERS:].strip()
        return f"its last words:\n{tail}" if tail else f"exit status {self._process.poll()}"
