"""Access to a sweep's models on Hugging Face, checked before any GPU is held.

The models of a sweep enter. For each model of the hub, its commit leaves, or what is wrong and what to do about it.
"""

import difflib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from runner.execution.preflight.model_files import download, find_cached, is_on_hub
from runner.inference.engine import EngineError
from runner.spec.model import ModelSpec

Problem = Literal["wrong", "denied", "unreachable"]
"""wrong: there is no such model or revision. denied: the model is gated or disabled. unreachable: no answer came."""
_HUB = "https://huggingface.co"
_TIMEOUT_S = 10.0
_NUM_SUGGESTIONS_LOOKED_AT = 50


class ModelAccessError(Exception):
    """A model exists, but cannot be downloaded. The message says what to do next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelAccess:
    """The hub's answer about one model."""

    label: str
    commit: str | None
    """The commit of its revision; None where there is a problem."""
    problem: Problem | None = None
    message: str = ""


def check_access(models: Sequence[ModelSpec]) -> list[ModelAccess]:
    """Ask the hub about each of its models. A model that is complete in the cache needs no answer.

    It raises nothing. After the first request without an answer, it asks no more.
    """
    on_hub = [model for model in models if is_on_hub(model.id)]
    answers: dict[tuple[str, str | None], ModelAccess] = {}
    silence: Exception | None = None
    for model in on_hub:
        key = (model.id, model.revision)
        if key in answers:  # variants of a model share its files
            continue
        cached = find_cached(model.id, model.revision)
        if cached is not None and cached.name == model.revision:  # a commit never changes
            answers[key] = ModelAccess(label=model.label, commit=cached.name)
            continue
        try:
            if silence is not None:
                raise silence
            answers[key] = ModelAccess(label=model.label, commit=_ask_commit(model))
        except Exception as error:  # errors of the hub, and of the network
            problem, message = explain(model.id, model.revision, error)
            silence = error if problem == "unreachable" else silence
            if cached is not None:
                answers[key] = ModelAccess(label=model.label, commit=cached.name)
            else:
                answers[key] = ModelAccess(label=model.label, commit=None, problem=problem, message=message)
    return [replace(answers[model.id, model.revision], label=model.label) for model in on_hub]


def require_access(found: Sequence[ModelAccess]) -> dict[str, str]:
    """Return the commit of each model by its label.

    Raises: ValueError: there is no such model. ModelAccessError: a model exists, but cannot be downloaded. One message
        holds all problems.
    """
    problems = [access for access in found if access.problem is not None]
    message = "\n".join(dict.fromkeys(access.message for access in problems))
    if any(access.problem == "wrong" for access in problems):
        raise ValueError(message)
    if problems:
        raise ModelAccessError(message)
    return {access.label: access.commit for access in found if access.commit is not None}


def locate(model_id: str, revision: str | None) -> str:
    """Return what an engine opens: a folder, or shapes/NAME.

    A repository that is not in the cache is downloaded first. Its time does not count as loading the engine, and an
    engine that opens a folder uses no network.

    Raises: EngineError: the model cannot be downloaded.
    """
    if not is_on_hub(model_id):
        return model_id
    if folder := find_cached(model_id, revision):
        return str(folder)
    try:
        return str(download(model_id, revision))
    except Exception as error:  # the hub's own, the network's, the disk's
        raise EngineError(f"{model_id} cannot be downloaded: {explain(model_id, revision, error)[1]}") from error


def explain(model_id: str, revision: str | None, error: Exception) -> tuple[Problem, str]:
    """Return what an error of huggingface_hub means for a model, and a message that says what to do."""
    from huggingface_hub import errors

    problem: Problem
    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case errors.HFValidationError():
            problem, message = (
                "wrong",
                f"model {model_id!r} is neither a folder here nor a Hugging Face id (OWNER/NAME)",
            )
        case errors.GatedRepoError():
            problem, message = "denied", f"model {model_id!r} is gated: {_say_how_to_unlock(model_id)}"
        case errors.DisabledRepoError():
            problem, message = "denied", f"model {model_id!r} has been disabled on Hugging Face: choose another"
        case errors.RepositoryNotFoundError():
            problem = "wrong"
            message = (
                f"there is no model {model_id!r}, neither as a folder here nor on Hugging Face "
                f"(or it is private, and the token here may not see it){_suggest(model_id)}"
            )
        case errors.RevisionNotFoundError():
            problem = "wrong"
            message = f"model {model_id!r} has no revision {revision!r}: see {_HUB}/{model_id}/commits/main"
        case errors.EntryNotFoundError() if status is not None:
            problem, message = "wrong", f"{_HUB}/{model_id} has no config.json: vLLM cannot open it"
        case errors.HfHubHTTPError() if status in (401, 403):
            problem, message = (
                "denied",
                f"Hugging Face refuses the token here for model {model_id!r}: set HF_TOKEN again",
            )
        case _:
            problem = "unreachable"
            reason = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
            message = (
                f"model {model_id!r} is not complete in this machine's cache, and Hugging Face does not answer "
                f"({reason})"
            )
    return problem, message


def _ask_commit(model: ModelSpec) -> str | None:
    """Return a model's commit, from the header of a file. The hub sends it only to users who may download the file."""
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url

    url = hf_hub_url(model.id, "config.json", revision=model.revision)
    return get_hf_file_metadata(url, token=get_token(), timeout=_TIMEOUT_S).commit_hash


def _say_how_to_unlock(model_id: str) -> str:
    from huggingface_hub import get_token

    if get_token() is None:
        return (
            f"accept its licence at {_HUB}/{model_id}, then set HF_TOKEN or run `hf auth login`: no token is set here"
        )
    return f"the token here may not read it; accept its licence at {_HUB}/{model_id} with that token's account"


def _suggest(model_id: str) -> str:
    """Return '; did you mean X?' for the nearest names on the hub, or ""."""
    from huggingface_hub import HfApi

    names: list[str] = []
    with suppress(Exception):  # an error here must not hide the one that is explained
        search = model_id.rpartition("/")[2]
        names = [model.id for model in HfApi().list_models(search=search, limit=_NUM_SUGGESTIONS_LOOKED_AT)]
    near = difflib.get_close_matches(model_id, names, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""
