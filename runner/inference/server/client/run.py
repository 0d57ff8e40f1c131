"""One run of requests over HTTP: it hands them in as the load says, and keeps what comes back.

It runs in the client's process (`program.py`). It does little for each read from a socket: bytes and a time are kept.
They are made into completions once the run is over.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import aiohttp

from runner.inference.admission import Admission, ArrivalAdmission
from runner.inference.arrivals import Arrivals
from runner.inference.server.bodies import COMPLETIONS
from runner.inference.server.client.messages import Progress, RunOrder, RunReport
from runner.inference.server.questions import describe_error
from runner.inference.server.stream import Exchange, make_completion
from runner.spec.request import UNFINISHED, Request

LOOK_AHEAD_S = 0.25
"""How long before it is due a request of an open loop is fetched, so that fetching does not make it late."""
MAX_FETCHED = 64
"""How many of them are fetched at once."""
MAX_FAILED_IN_A_ROW = 16
"""After so many failed requests one after the other, the server is not asked any more in this run."""
PROGRESS_PERIOD_S = 0.25

Take = Callable[[int], Awaitable[Sequence[tuple[Request, str | None]]]]
"""Fetches at most so many requests, each with its prompt's text where the server takes no ids. Fewer: the last ones."""


class _RunFailedError(Exception):
    """The run has no result. The text says why."""


class ClientRun:
    """One run. `go` may be called once; `abort` ends it early.

    Args:
        take: fetches the next requests.
        report: sends how far the run is.
    """

    def __init__(
        self, session: aiohttp.ClientSession, order: RunOrder, take: Take, report: Callable[[Progress], None]
    ) -> None:
        self._session = session
        self._order = order
        self._take = take
        self._report = report
        self._rounds: Counter[str] = Counter()
        self._in_flight: dict[asyncio.Task[None], Exchange] = {}
        self._ended: list[Exchange] = []
        self._num_events = 0
        self._num_failed_in_a_row = 0
        self._changed = asyncio.Event()
        self._arrivals: ArrivalAdmission | None = None
        self._is_withdrawing = False
        self._failure: str | None = None
        self._abort_reason: str | None = None

    def abort(self, reason: str) -> None:
        """Withdraw what is in flight. `go` returns soon after."""
        self._abort_reason = reason
        self._changed.set()

    async def go(self) -> RunReport:
        """Hand in requests until there are no more, wait for the last answer, and return what came of them."""
        order = self._order
        start_ns = time.time_ns()
        offset_ns = start_ns - time.monotonic_ns()
        reporting = asyncio.create_task(self._report_progress()) if order.reports_progress else None
        try:
            async with asyncio.timeout(order.deadline_s):
                if isinstance(order.load, Arrivals):
                    await self._follow(order.load, (start_ns - offset_ns) * 1e-9)
                    await self._withdraw(UNFINISHED)
                else:
                    await self._keep_in_flight(Admission(order.load))
                while self._in_flight:
                    await self._wait()
        except TimeoutError:
            await self._withdraw(f"not finished within the limit of {order.deadline_s:g} s; aborted")
        except _RunFailedError as error:
            self._failure = self._failure or str(error)
            await self._withdraw(str(error))
        finally:
            if reporting is not None:
                reporting.cancel()
        end_ns = time.monotonic_ns() + offset_ns
        completions = [make_completion(exchange, offset_ns) for exchange in self._ended]
        if completions and all(completion.error for completion in completions) and self._abort_reason is None:
            self._failure = self._failure or f"no request ended well; the first one: {completions[0].error}"
        return RunReport(start_ns=start_ns, end_ns=end_ns, completions=completions, failure=self._failure)

    async def _keep_in_flight(self, admission: Admission) -> None:
        """Closed loop: hand in a request whenever a place is free."""
        while True:
            num_free = admission.num_admissible(len(self._in_flight))
            if num_free <= 0:
                await self._wait()
                continue
            requests = await self._take(num_free)
            self._require_going()
            for request, text in requests:
                self._hand_in(request, text)
            if len(requests) < num_free:
                return

    async def _follow(self, arrivals: Arrivals, start_s: float) -> None:
        """Open loop: hand in each request when it arrives, until those of the window have ended.

        Args:
            start_s: the start of the run, on the host's monotonic clock.
        """
        self._arrivals = admission = ArrivalAdmission(arrivals)
        waiting: deque[tuple[Request, str | None]] = deque()
        fetching = asyncio.create_task(self._fetch_ahead(arrivals, start_s, waiting))
        try:
            while not admission.is_over(elapsed_s := time.monotonic() - start_s):
                self._require_going()
                left_s = min(admission.next_s, arrivals.limit_s) - elapsed_s
                if left_s <= 0 and not waiting and fetching.done():  # interrupted
                    return
                if left_s > 0 or not waiting:
                    await self._pause(left_s if left_s > 0 else LOOK_AHEAD_S)
                    continue
                arrived_s, in_window = admission.arrive()
                arrived_ns = round((start_s + arrived_s) * 1e9)
                self._hand_in(*waiting.popleft(), arrived_ns=arrived_ns, in_window=in_window)
                await asyncio.sleep(0)  # where many arrive at once, the first ones are sent meanwhile
        finally:
            fetching.cancel()

    async def _fetch_ahead(
        self, arrivals: Arrivals, start_s: float, waiting: deque[tuple[Request, str | None]]
    ) -> None:
        """Fetch requests shortly before they arrive, until there are no more."""
        num_fetched = 0
        while True:
            ahead_s = time.monotonic() - start_s + LOOK_AHEAD_S
            if (early_s := arrivals.time_s(num_fetched) - ahead_s) > 0:
                await asyncio.sleep(early_s)
                continue
            num_due = 1
            while num_due < MAX_FETCHED and arrivals.time_s(num_fetched + num_due) <= ahead_s:
                num_due += 1
            fetched = await self._take(num_due)
            waiting.extend(fetched)
            self._changed.set()
            if len(fetched) < num_due:
                return
            num_fetched += num_due

    async def _pause(self, seconds: float) -> None:
        """Wait until a request has ended, at most so long. Raises: _RunFailedError: the run is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wait()

    async def _wait(self) -> None:
        """Wait until a request has ended. Raises: _RunFailedError: the run is over."""
        await self._changed.wait()
        self._changed.clear()
        self._require_going()

    def _require_going(self) -> None:
        if reason := self._failure or self._abort_reason:
            raise _RunFailedError(reason)

    def _hand_in(
        self, request: Request, text: str | None, arrived_ns: int | None = None, *, in_window: bool = True
    ) -> None:
        exchange = Exchange(
            request=request,
            round=self._rounds[request.request_id],
            queued_ns=time.monotonic_ns(),
            arrived_ns=arrived_ns,
            in_window=in_window,
        )
        self._rounds[request.request_id] += 1
        task = asyncio.create_task(self._send(exchange, text))
        self._in_flight[task] = exchange
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        exchange = self._in_flight.pop(task)
        self._ended.append(exchange)
        self._changed.set()
        if self._arrivals is not None:
            self._arrivals.end(in_window=exchange.in_window)
        if self._is_withdrawing:
            return
        self._num_failed_in_a_row = self._num_failed_in_a_row + 1 if exchange.error else 0
        if self._num_failed_in_a_row >= MAX_FAILED_IN_A_ROW and self._failure is None:
            self._failure = f"{MAX_FAILED_IN_A_ROW} requests in a row failed; the last one: {exchange.error}"

    async def _send(self, exchange: Exchange, text: str | None) -> None:
        """Send one request and keep what comes back."""
        request, order = exchange.request, self._order
        ids = list(request.prompt_token_ids)
        if request.kind == "generate":
            body = order.maker.generate(request, order.sampling, ids if text is None else text)
        else:
            body = order.maker.score(ids)
        try:
            async with (
                asyncio.timeout(order.request_limit_s),
                self._session.post(order.url + COMPLETIONS, json=body, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    reason = describe_error(await response.text(errors="replace"))
                    exchange.error = f"refused: {response.status}{reason}"
                    return
                async for data in response.content.iter_any():
                    exchange.received.append((time.monotonic_ns(), data))
                    self._num_events += data.count(b"data:")
        except TimeoutError:
            exchange.error = f"not finished within the request's limit of {order.request_limit_s:g} s; aborted"
        except aiohttp.ClientConnectorError as error:
            exchange.error = f"the server at {order.url} is gone: {error.os_error.strerror or error}"
            self._failure = self._failure or exchange.error
        except (aiohttp.ClientError, OSError) as error:
            exchange.error = f"the connection broke: {str(error) or type(error).__name__}"
        except Exception as error:  # of this request alone, such as a body that is no JSON
            exchange.error = f"{type(error).__name__}: {error}"

    async def _withdraw(self, reason: str) -> None:
        """Close the connections of what is in flight, by which a server learns that nobody waits for it."""
        self._is_withdrawing = True
        tasks = list(self._in_flight)
        for task in tasks:
            self._in_flight[task].error = reason
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the callbacks of ended tasks come a turn later

    async def _report_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_PERIOD_S)
            self._report(Progress(len(self._ended), self._num_events))
