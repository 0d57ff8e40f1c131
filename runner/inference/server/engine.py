"""A model of a server that runs already, as an engine. The server is never stopped, restarted or changed.

`look.py` finds out what the server is. The requests go through a process of their own (`program.py`).
"""

import time
from collections.abc import Callable, Iterator

from runner.inference.arrivals import Arrivals
from runner.inference.engine import EngineError, EngineRun, Sampling
from runner.inference.server.address import ServerAddress
from runner.inference.server.client.messages import RunOrder
from runner.inference.server.client.process import ClientProcess
from runner.inference.server.facts import Abilities, ServedModel, ServerFacts
from runner.inference.server.look import find_model, look_at_server, make_body_maker, try_out
from runner.inference.server.processes import are_running, find_listeners, list_server_processes
from runner.inference.server.questions import ServerAwayError, ServerError, ask
from runner.inference.server.tokenizer import ModelFiles, choose_source, read_model_files
from runner.physics.shape import ModelShape
from runner.spec.load import ClosedLoop
from runner.spec.request import Request

_RETRY_S = 1.0
_RESET_PATHS = {"vllm": "/reset_prefix_cache", "sglang": "/flush_cache"}
"""By `owned_by`. vLLM offers it with VLLM_SERVER_DEV_MODE=1 only."""
_NOT_OFFERED = (404, 405)


class ServerEngine:
    """One model of one server; implements `Engine`.

    Args:
        facts: what the server was when the run began. A server of another kind or version is refused.
        model_id: the model's folder or id of the hub, whose tokenizer makes the prompts; or the server's name for it.
        revision: of the tokenizer on the hub.
        max_model_len: cut prompts as for a context of this length, in tokens; None for the server's own.
        scores: whether the sweep needs log-likelihoods.
        wait_s: how long to wait for a server that is away, such as one that restarts.
        is_interrupted: asked while waiting. Once it returns True, the server counts as away.
        request_limit_s: seconds after which a request in flight is withdrawn and comes back with an error.

    Raises: EngineError: the server is away, is another one than before, or does not do what the sweep needs.
    """

    def __init__(
        self,
        facts: ServerFacts,
        model_id: str,
        *,
        revision: str | None = None,
        max_model_len: int | None = None,
        scores: bool = False,
        wait_s: float = 0.0,
        is_interrupted: Callable[[], bool] = lambda: False,
        request_limit_s: float | None = None,
    ) -> None:
        self._request_limit_s = request_limit_s
        self._facts, self._model, self._abilities = wait_for_model(
            facts, model_id, scores=scores, wait_s=wait_s, is_interrupted=is_interrupted
        )
        self._listeners = find_listeners(self._address)
        self._files: ModelFiles = read_model_files(choose_source(model_id, self._model), revision)
        self._max_model_len = _choose_max_model_len(self._model, self._files, max_model_len)
        self._maker = make_body_maker(self._facts, self._model)
        self._can_reset = self._facts.keeps_prefixes is False or self._facts.owner in _RESET_PATHS
        self._client: ClientProcess | None = ClientProcess()

    @property
    def max_model_len(self) -> int:
        """Longest prompt and output together, in tokens."""
        return self._max_model_len

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the model knows."""
        return self._files.vocab_size

    @property
    def encode(self) -> Callable[[str], list[int]]:
        """Text to token ids, special tokens as the model's tokenizer adds them."""
        return self._files.encode

    @property
    def shape(self) -> ModelShape | None:
        """The shape in the model's configuration. In which precision the server runs it is not told."""
        return self._files.shape

    @property
    def process_ids(self) -> frozenset[int]:
        """Ids of the server's processes; empty where they are not visible to this user."""
        return list_server_processes(self._listeners)

    @property
    def can_reset_prefix_cache(self) -> bool:
        """Whether the server offers to forget cached prefixes, or keeps none. Known after the first try."""
        return self._can_reset

    def run(
        self,
        requests: Iterator[Request],
        load: ClosedLoop | Arrivals,
        sampling: Sampling,
        *,
        deadline_s: float | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        on_edge: Callable[[], None] | None = None,
    ) -> EngineRun:
        """Hand in requests as the load says; see `Engine.run`.

        `on_edge` is never called: another process sends the requests. A request that the server refuses, or does not
        finish in time, comes back with its error. There are no steps: a server does not report them.

        Raises:
            EngineError: the server has gone or has been restarted, or no request ended well.
        """
        client = self._require_client()
        self._require_same_server()
        order = RunOrder(
            url=self._address.url,
            maker=self._maker,
            load=load,
            sampling=sampling,
            deadline_s=deadline_s,
            request_limit_s=self._request_limit_s,
            reports_progress=on_progress is not None,
        )
        report = client.run(order, requests, self._prepare, on_progress)
        self._require_same_server()
        if report.failure is not None:
            raise EngineError(f"{self._address.url}: {report.failure}")
        return EngineRun(start_ns=report.start_ns, end_ns=report.end_ns, completions=report.completions, steps=[])

    def reset_prefix_cache(self) -> bool:
        """Forget cached prefixes, where the server offers it; False if it does not, or refused."""
        self._require_client()
        if self._facts.keeps_prefixes is False:
            return True
        path = _RESET_PATHS.get(self._facts.owner)
        if path is None or not self._can_reset:
            return False
        answer = ask(self._address, path, post=True)
        if answer.status in _NOT_OFFERED:
            self._can_reset = False
        content = answer.content
        return answer.is_ok and not (isinstance(content, dict) and content.get("success") is False)

    def close(self) -> None:
        """End the client's process. The server goes on. May be called twice."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def _address(self) -> ServerAddress:
        return self._facts.address

    def _require_client(self) -> ClientProcess:
        if self._client is None:
            raise EngineError("the connection to the server has been closed; open it anew")
        return self._client

    def _require_same_server(self) -> None:
        """Raises: EngineError: another process listens now, so that the rest of the trial came from another server."""
        if self._listeners and not are_running(self._listeners):
            raise EngineError(f"the server at {self._address.url} has ended or has been restarted")

    def _prepare(self, request: Request) -> tuple[Request, str | None]:
        if self._abilities.takes_token_ids:
            return request, None
        return request, self._files.decode(list(request.prompt_token_ids))


def wait_for_model(
    facts: ServerFacts,
    model_id: str,
    *,
    scores: bool,
    wait_s: float,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> tuple[ServerFacts, ServedModel, Abilities]:
    """Return what the server is now, the model's entry, and what it does; wait while it is away.

    Raises: ServerError: as `ServerEngine`.
    """
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            now = look_at_server(facts.address)
            if now.software != facts.software:
                raise ServerError(
                    f"the server at {facts.address.url} is {now.software} now and was {facts.software}: results of "
                    "the two must not be mixed; start anew with --fresh, or give another --out"
                )
            model = find_model(now, model_id)
            if model is None:
                served = ", ".join(served.id for served in now.models)
                raise ServerError(f"the server at {facts.address.url} has no model {model_id!r} any more, but {served}")
            return now, model, try_out(now, model, scores=scores)
        except ServerAwayError as error:
            if is_interrupted() or time.monotonic() > deadline_s:
                after = f"; it was not back within {wait_s:g} s" if wait_s else ""
                raise ServerAwayError(f"{error}{after}") from error
        time.sleep(_RETRY_S)


def _choose_max_model_len(model: ServedModel, files: ModelFiles, asked: int | None) -> int:
    """Return the least of what the server, or else the configuration, allows and what the sweep file asks for.

    Raises: EngineError: none of them says anything.
    """
    known = [length for length in (model.max_model_len or files.max_position, asked) if length]
    if not known:
        raise EngineError(
            f"neither the server nor the configuration says how long a prompt of {model.id} may be: set "
            "engine = { max_model_len = ... } for the model"
        )
    return min(known)
