"""The files of a model: which files of a Hugging Face repository an engine needs, and where they are on this machine.

For gated models it uses the hub's token (HF_TOKEN, or the one that `hf auth login` has stored), and never writes it
anywhere. Models that are folders or shapes need no download.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from runner.inference.vllm.shapes import SHAPES_PREFIX

_WEIGHTS = ("safetensors", "bin")
"""In order of preference. A repository with both holds the weights twice."""
_BESIDE_WEIGHTS = (".json", ".txt", ".model", ".tiktoken", ".jinja", ".py")
"""Configuration, tokenizer, chat template, and the code of models that have their own."""
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


def is_on_hub(model_id: str) -> bool:
    """Return whether a model's id names a repository, and not a folder of this machine or shapes/NAME."""
    return not model_id.startswith(SHAPES_PREFIX) and not Path(model_id).is_dir()


def choose_files(names: Iterable[str]) -> list[str]:
    """Return the files of a repository that an engine needs: the weights, once, and the small files beside them.

    Folders are left out, since they hold the same model for other programs.
    """
    top = [name for name in names if "/" not in name]
    weights = ([name for name in top if name.endswith(f".{suffix}")] for suffix in _WEIGHTS)
    return [*next(filter(None, weights), []), *(name for name in top if name.endswith(_BESIDE_WEIGHTS))]


def find_cached(model_id: str, revision: str | None) -> Path | None:
    """Return the folder in the hub's cache that holds a complete model; None where there is none.

    Args:
        revision: a commit, branch or tag; None for the default branch, or else the newest one in the cache.
    Returns: a folder whose name is the commit.
    """
    from huggingface_hub import constants

    with_config = find_cached_config(model_id, revision)
    folders = [with_config] if with_config else []
    if revision is None:  # a download by commit does not record the branch
        snapshots = Path(constants.HF_HUB_CACHE, f"models--{model_id.replace('/', '--')}", "snapshots")
        folders += sorted(snapshots.glob("*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    return next((folder for folder in folders if _is_whole(folder)), None)


def find_cached_config(model_id: str, revision: str | None) -> Path | None:
    """Return the folder in the hub's cache that holds a model's config.json; None where there is none."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(model_id, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(config).parent if isinstance(config, str) else None


def download(model_id: str, revision: str | None) -> Path:
    """Return the folder in the hub's cache with a model's files, after downloading those that are missing.

    Raises: the errors of huggingface_hub, which `model_access.explain` explains.
    """
    from huggingface_hub import HfApi, snapshot_download

    names = HfApi().list_repo_files(model_id, revision=revision)
    return Path(snapshot_download(model_id, revision=revision, allow_patterns=choose_files(names)))


def _is_whole(folder: Path) -> bool:
    has_tokenizer = any((folder / name).exists() for name in _TOKENIZERS)
    return has_tokenizer and any(_has_weights(folder, suffix) for suffix in _WEIGHTS)


def _has_weights(folder: Path, suffix: str) -> bool:
    """Whether all files of weights are there: those that an index lists, or else at least one."""
    for index in folder.glob(f"*.{suffix}.index.json"):
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((folder / name).exists() for name in names)
    return any(path.exists() for path in folder.glob(f"*.{suffix}"))
