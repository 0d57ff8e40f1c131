"""A small OpenAI-compatible server in a process of its own, which misbehaves as a test asks.

`python fake_server.py PORT OPTIONS` with the fields of `Behaviour` as JSON. GET /log gives the bodies that came.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

SMALL_MODEL = str(Path(__file__).parents[3] / "models" / "joulesweep-small")


@dataclass(kw_only=True)
class Behaviour:
    """What the server is, and what is wrong with it."""

    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": SMALL_MODEL, "max_model_len": 512}])
    owned_by: str = "vllm"
    answers: dict[str, Any] = field(default_factory=lambda: {"/version": {"version": "0.32.0"}})
    """By path, what a GET gives: JSON, or a text."""
    statuses: dict[str, int] = field(default_factory=dict)
    """By path, the status that every question gets there."""
    completions_status_after: int | None = None
    """From this number of completions on, each gets the status 500."""
    key: str | None = None
    takes_token_ids: bool = True
    takes_ignore_eos: bool = True
    keeps_ignore_eos: bool = True
    reports_usage: bool = True
    gives_scores: bool = True
    breaks_off: bool = False
    """Whether each stream ends in the middle."""
    token_s: float = 0.0
    """Between two tokens."""
    reset_status: int = 404
    reset_answer: dict[str, Any] = field(default_factory=lambda: {"success": True})
    cached_tokens: int | None = None


class FakeServer:
    """One such server and its counts."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._bodies: list[dict[str, Any]] = []
        self._num_in_flight = 0
        self._most_in_flight = 0

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._check])
        app.router.add_get("/log", self._log)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._complete)
        for path in ("/reset_prefix_cache", "/flush_cache"):
            app.router.add_post(path, self._reset)
        app.router.add_get("/{rest:.*}", self._answer)
        return app

    @web.middleware
    async def _check(self, request: web.Request, handler: Any) -> web.StreamResponse:
        behaviour = self._behaviour
        if status := behaviour.statuses.get(request.path):
            return web.json_response({"error": {"message": "out of order"}}, status=status)
        if behaviour.key is not None and request.headers.get("Authorization") != f"Bearer {behaviour.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        response: web.StreamResponse = await handler(request)
        return response

    async def _log(self, _: web.Request) -> web.Response:
        return web.json_response({"bodies": self._bodies, "most_in_flight": self._most_in_flight})

    async def _models(self, _: web.Request) -> web.Response:
        owned = {"owned_by": self._behaviour.owned_by}
        return web.json_response({"object": "list", "data": [owned | model for model in self._behaviour.models]})

    async def _answer(self, request: web.Request) -> web.Response:
        answer = self._behaviour.answers.get(request.path)
        if answer is None:
            return web.json_response({"detail": "Not Found"}, status=404)
        return web.Response(text=answer) if isinstance(answer, str) else web.json_response(answer)

    async def _reset(self, _: web.Request) -> web.Response:
        return web.json_response(self._behaviour.reset_answer, status=self._behaviour.reset_status)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        behaviour = self._behaviour
        self._bodies.append(body)
        after = behaviour.completions_status_after
        if after is not None and len(self._bodies) > after:
            return web.json_response({"error": {"message": "engine is dead"}}, status=500)
        if isinstance(body["prompt"], list) and not behaviour.takes_token_ids:
            return web.json_response({"error": {"message": "prompt must be a string"}}, status=400)
        if "ignore_eos" in body and not behaviour.takes_ignore_eos:
            return web.json_response({"error": {"message": "unknown field ignore_eos"}}, status=400)
        if len(body["prompt"]) > 400:
            return web.json_response({"error": {"message": "the prompt is too long"}}, status=400)
        self._num_in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._num_in_flight)
        try:
            return await (self._stream(request, body) if body.get("stream") else self._score(body))
        except ConnectionResetError:  # the client has withdrawn its request
            return web.Response()
        finally:
            self._num_in_flight -= 1

    async def _stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        behaviour = self._behaviour
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        num_tokens = body["max_tokens"] if behaviour.keeps_ignore_eos else 1
        for number in range(num_tokens):
            await asyncio.sleep(behaviour.token_s)
            choice = {"index": 0, "text": f"w{number} ", "token_ids": [100 + number]}
            await response.write(_event({"choices": [choice]}))
            if behaviour.breaks_off:
                return response
        if behaviour.reports_usage:
            usage: dict[str, Any] = {"prompt_tokens": len(body["prompt"]), "completion_tokens": num_tokens}
            if behaviour.cached_tokens is not None:
                usage["prompt_tokens_details"] = {"cached_tokens": behaviour.cached_tokens}
            await response.write(_event({"choices": [], "usage": usage}))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _score(self, body: dict[str, Any]) -> web.Response:
        num_tokens = len(body["prompt"])
        scores = [None, *(-float(number) for number in range(1, num_tokens)), -0.5]
        top = [None if score is None else {"best": -2.0, "own": score} for score in scores]
        logprobs = {"token_logprobs": scores, "top_logprobs": top} if self._behaviour.gives_scores else None
        usage = {"prompt_tokens": num_tokens, "completion_tokens": 1}
        return web.json_response({"choices": [{"text": "", "logprobs": logprobs}], "usage": usage})


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


class ServerProcess:
    """A `FakeServer` in a process that tests may kill, pause and start again on the same port."""

    def __init__(self, behaviour: Behaviour, port: int | None = None) -> None:
        self.port = port or find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, __file__, str(self.port), json.dumps(asdict(behaviour))]
        self.process = subprocess.Popen(command, start_new_session=True)
        wait_for_port(self.port, self.process)

    def log(self) -> dict[str, Any]:
        """Return the bodies that came, and the most requests that were in flight."""
        with urllib.request.urlopen(f"{self.url}/log") as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)


@contextlib.contextmanager
def fake_server(**behaviour: Any) -> Iterator[ServerProcess]:
    """Run such a server for the time of a block."""
    server = ServerProcess(Behaviour(**behaviour))
    try:
        yield server
    finally:
        server.kill()


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 300.0) -> None:
    """Wait until a server listens. The limit is long enough for a busy machine."""
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        assert process.poll() is None, "the server has ended"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        time.sleep(0.05)
    raise AssertionError("the server does not listen")


if __name__ == "__main__":
    # As vLLM's, its port stays free while it is away.
    web.run_app(
        FakeServer(Behaviour(**json.loads(sys.argv[2]))).application(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        print=None,
        access_log=None,
    )
