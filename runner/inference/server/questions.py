"""Single questions to a server, outside every window. The requests of a trial go through `client/`."""

import asyncio
import json
import os
from typing import Any, NamedTuple

import aiohttp

from runner.inference.engine import EngineError
from runner.inference.server.address import ServerAddress

API_KEY_VARIABLE = "OPENAI_API_KEY"
ANSWER_LIMIT_S = 10.0
_NUM_ERROR_CHARACTERS = 300


class ServerError(EngineError):
    """A server does not answer, or not as an OpenAI-compatible server does. The message says what to do."""


class ServerAwayError(ServerError):
    """No server answers now. One may come, or come back."""


class Answer(NamedTuple):
    """The answer to one question."""

    status: int
    text: str

    @property
    def is_ok(self) -> bool:
        """Whether the server did what it was asked."""
        return 200 <= self.status < 300

    @property
    def content(self) -> Any:
        """The JSON of the answer; None where it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def reason(self) -> str:
        """The status and what the server says about it, on one line."""
        return f"{self.status}{describe_error(self.text)}"


def describe_error(text: str) -> str:
    """Return ": MESSAGE" of the body of an answer that reports an error; "" where it says nothing."""
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if isinstance(content, dict):
        inner = content.get("error", content)
        text = str(inner.get("message") or inner.get("detail") or inner) if isinstance(inner, dict) else str(inner)
    line = " ".join(text.split())[:_NUM_ERROR_CHARACTERS]
    return f": {line}" if line else ""


def headers() -> dict[str, str]:
    """Return the headers of every request: the API key of OPENAI_API_KEY, where it is set."""
    key = os.environ.get(API_KEY_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}


def ask(address: ServerAddress, path: str, body: dict[str, Any] | None = None, *, post: bool = False) -> Answer:
    """Return the server's answer to a GET, or to a POST where there is a body or `post` is set.

    Args:
        path: with its leading slash, such as /v1/models.
    Raises: ServerAwayError: no answer came. ServerError: the server wants another API key.
    """
    method = "POST" if post or body is not None else "GET"
    try:
        answer = asyncio.run(_ask(method, address.url + path, body))
    except TimeoutError:
        raise ServerAwayError(
            f"the server at {address.url} did not answer {method} {path} within {ANSWER_LIMIT_S:g} s"
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        raise ServerAwayError(
            f"no server answers at {address.url} ({_name(error)}): start it, or give the address of one that runs"
        ) from None
    if answer.status in (401, 403):
        what = "does not accept the key in" if os.environ.get(API_KEY_VARIABLE) else "wants an API key: set"
        raise ServerError(f"the server at {address.url} answers {answer.status}: it {what} {API_KEY_VARIABLE}")
    return answer


async def _ask(method: str, url: str, body: dict[str, Any] | None) -> Answer:
    timeout = aiohttp.ClientTimeout(total=ANSWER_LIMIT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, headers=headers()) as session,
        session.request(method, url, json=body, allow_redirects=False) as response,
    ):
        return Answer(response.status, await response.text(errors="replace"))


def _name(error: Exception) -> str:
    """Return what went wrong, without the address that aiohttp repeats."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return str(cause.strerror or cause) if isinstance(cause, OSError) else str(cause) or type(cause).__name__
