"""Looking at a server: what it is, which models it has, and what it does with requests that try it out.

An address enters. `ServerFacts` and `Abilities` leave. Only questions and tiny requests are sent; nothing is changed.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.inference.engine import Sampling
from runner.inference.server.address import ServerAddress
from runner.inference.server.bodies import COMPLETIONS, NEUTRAL_SAMPLING, BodyMaker
from runner.inference.server.facts import Abilities, ServedModel, ServerFacts
from runner.inference.server.questions import Answer, ServerAwayError, ServerError, ask
from runner.inference.server.stream import read_events
from runner.spec.request import Request

MODELS = "/v1/models"
_VERSION_PATHS = {"vllm": "/version", "sglang": "/get_server_info", "llamacpp": "/props", "tensorrt_llm": "/version"}
_PREFIX_CACHING = re.compile(r'^vllm:cache_config_info\{[^}]*enable_prefix_caching="(True|False)"', re.MULTILINE)
_TRIAL_TOKEN_IDS = (1, 2, 1)
"""Ids that every vocabulary has."""
_TRIAL_TEXT = "a"


def look_at_server(address: ServerAddress) -> ServerFacts:
    """Ask a server what it is and which models it has.

    Raises: ServerAwayError: no answer came, or the server is still loading. ServerError: it is not an
        OpenAI-compatible server, or it wants another API key.
    """
    answer = ask(address, MODELS)
    if answer.status == 503:
        raise ServerAwayError(f"the server at {address.url} is not ready: it answers GET {MODELS} with {answer.reason}")
    if not answer.is_ok:
        raise ServerError(f"the server at {address.url} answers GET {MODELS} with {answer.reason}")
    entries = _read_entries(answer.content)
    if not entries:
        raise ServerError(f"{address.url} is no OpenAI-compatible server: GET {MODELS} gives no list of models")
    owner = str(entries[0].get("owned_by") or "")
    about = _ask_about(address, owner)
    models = tuple(_read_model(entry) for entry in entries)
    slots = about.get("default_generation_settings")
    if owner == "llamacpp" and isinstance(slots, dict):  # the context of one slot, and not the model's own
        models = tuple(replace(model, max_model_len=_read_number(slots.get("n_ctx"))) for model in models)
    version = about.get("version") or about.get("build_info")
    return ServerFacts(
        address=address,
        owner=owner,
        version=None if version is None else str(version),
        models=models,
        keeps_prefixes=_find_prefix_caching(address, owner, about),
    )


def find_model(facts: ServerFacts, model_id: str) -> ServedModel | None:
    """Return the served model that the sweep file's id means: by name, by hub id, or by folder; None: there is none."""
    for model in facts.models:
        if model_id in (model.id, model.root):
            return model
    if not Path(model_id).is_dir():
        return None
    folder = Path(model_id).resolve()
    return next(
        (m for m in facts.models if any(name and _is_folder(name, folder) for name in (m.id, m.root))),
        None,
    )


def make_body_maker(facts: ServerFacts, model: ServedModel) -> BodyMaker:
    """Return what makes the bodies of requests for a model of the server."""
    return BodyMaker(model=model.id, extra=NEUTRAL_SAMPLING.get(facts.owner, {}))


def try_out(facts: ServerFacts, model: ServedModel, *, scores: bool) -> Abilities:
    """Send tiny requests to find out what the server takes.

    Args:
        scores: whether the sweep needs log-likelihoods.
    Raises: ServerAwayError: no answer came. ServerError: it refuses every completion, or reports no token counts.
    """
    maker = make_body_maker(facts, model)
    answer, takes_ids, takes_ignore = None, False, False
    for takes_ids, takes_ignore in ((True, True), (True, False), (False, True), (False, False)):
        request = Request(
            request_id="", sample_id="", kind="generate", prompt_token_ids=_TRIAL_TOKEN_IDS,
            num_context_tokens=len(_TRIAL_TOKEN_IDS), max_output_tokens=1, ignore_eos=takes_ignore,
        )  # fmt: skip
        prompt: list[int] | str = list(_TRIAL_TOKEN_IDS) if takes_ids else _TRIAL_TEXT
        answer = ask(facts.address, COMPLETIONS, maker.generate(request, Sampling(), prompt))
        if answer.is_ok:
            break
    assert answer is not None
    if not answer.is_ok:
        where = f"the server at {facts.address.url}"
        raise ServerError(f"{where} answers POST {COMPLETIONS} for model {model.id!r} with {answer.reason}")
    _require_usage(facts, answer)
    scores_prompts = _scores_prompts(facts, maker) if scores and takes_ids else False if scores else None
    return Abilities(takes_token_ids=takes_ids, takes_ignore_eos=takes_ignore, scores_prompts=scores_prompts)


def _require_usage(facts: ServerFacts, answer: Answer) -> None:
    events = [event for _, event in read_events([(0, answer.text.encode())])]
    if not any(isinstance(event.get("usage"), dict) for event in events):
        raise ServerError(
            f"the server at {facts.address.url} reports no token counts in a stream (`usage`, asked for with "
            "stream_options.include_usage), and without them nothing can be counted"
        )


def _scores_prompts(facts: ServerFacts, maker: BodyMaker) -> bool:
    content = ask(facts.address, COMPLETIONS, maker.score(list(_TRIAL_TOKEN_IDS))).content
    try:
        found: Sequence[Any] = content["choices"][0]["logprobs"]["token_logprobs"][1 : len(_TRIAL_TOKEN_IDS)]
        top = content["choices"][0]["logprobs"]["top_logprobs"][1 : len(_TRIAL_TOKEN_IDS)]
    except (TypeError, KeyError, IndexError):
        return False
    return len(found) == len(top) == len(_TRIAL_TOKEN_IDS) - 1 and None not in found and None not in top


def _ask_about(address: ServerAddress, owner: str) -> dict[str, Any]:
    """Return what the server says of itself where its kind is known; {} elsewhere, and where it does not answer."""
    path = _VERSION_PATHS.get(owner)
    content = ask(address, path).content if path else None
    return content if isinstance(content, dict) else {}


def _find_prefix_caching(address: ServerAddress, owner: str, about: dict[str, Any]) -> bool | None:
    if owner == "vllm":
        found = _PREFIX_CACHING.search(ask(address, "/metrics").text)
        return None if found is None else found.group(1) == "True"
    if owner == "sglang" and isinstance(about.get("disable_radix_cache"), bool):
        return not about["disable_radix_cache"]
    return False if owner == "llamacpp" else None  # llama.cpp is told not to, with each request


def _read_entries(content: Any) -> list[dict[str, Any]]:
    data = content.get("data") if isinstance(content, dict) else None
    return [entry for entry in data if isinstance(entry, dict) and entry.get("id")] if isinstance(data, list) else []


def _read_model(entry: dict[str, Any]) -> ServedModel:
    root = entry.get("root")
    return ServedModel(
        id=str(entry["id"]),
        root=str(root) if root else None,
        max_model_len=_read_number(entry.get("max_model_len")),
    )


def _read_number(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _is_folder(name: str, folder: Path) -> bool:
    return Path(name).is_dir() and Path(name).resolve() == folder
