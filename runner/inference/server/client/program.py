"""The client's process, `python -m runner.inference.server.client.program FD`: it carries out runs for one engine.

It is a process of its own, so that neither its connections nor Python's lock disturb the sampler of the worker. It ends
when the engine closes its end of the sockets, or dies.
"""

import asyncio
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

import aiohttp

from runner.inference.server.client.messages import Abort, Progress, Ready, RunOrder, Supply, Wanted
from runner.inference.server.client.run import ClientRun
from runner.inference.server.questions import headers
from runner.spec.request import Request

_CONNECT_LIMIT_S = 10.0


def main() -> None:
    """Carry out runs until the engine is gone."""
    asyncio.run(serve(Connection(int(sys.argv[1]))))


async def serve(connection: "Connection") -> None:
    """Answer each `RunOrder` that comes over the connection with a `RunReport`."""
    messages: asyncio.Queue[RunOrder | None] = asyncio.Queue()
    client = _Client(connection, messages)
    asyncio.get_running_loop().add_reader(connection.fileno(), client.receive)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),  # the load decides how many are in flight
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_LIMIT_S),
        headers=headers(),
    ) as session:
        connection.send(Ready())
        while (order := await messages.get()) is not None:
            await client.carry_out(session, order)


class _Client:
    """Sorts what comes from the engine: orders into a queue, supplies and aborts to the run in progress."""

    def __init__(self, connection: "Connection", orders: asyncio.Queue[RunOrder | None]) -> None:
        self._connection = connection
        self._orders = orders
        self._run: ClientRun | None = None
        self._supplied: asyncio.Future[Supply] | None = None

    async def carry_out(self, session: aiohttp.ClientSession, order: RunOrder) -> None:
        """Run, and send the report."""
        self._run = ClientRun(session, order, self._take, self._send_progress)
        report = await self._run.go()
        self._run = None
        self._connection.send(report)

    def receive(self) -> None:
        """Take one message from the engine. Its end of the sockets being closed ends this process."""
        try:
            message = self._connection.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._orders.put_nowait(None)
            if self._run is not None:
                self._run.abort("the engine is gone")
            return
        match message:
            case RunOrder():
                self._orders.put_nowait(message)
            case Supply():
                if self._supplied is not None and not self._supplied.done():
                    self._supplied.set_result(message)
            case Abort():
                if self._run is not None:
                    self._run.abort(message.reason)
                if self._supplied is not None and not self._supplied.done():
                    self._supplied.set_result(Supply(()))

    async def _take(self, num_requests: int) -> Sequence[tuple[Request, str | None]]:
        self._supplied = asyncio.get_running_loop().create_future()
        self._connection.send(Wanted(num_requests))
        return (await self._supplied).requests

    def _send_progress(self, progress: Progress) -> None:
        self._connection.send(progress)


if __name__ == "__main__":
    main()
