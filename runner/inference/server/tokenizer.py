"""The tokenizer and the sizes of a model that somebody else serves, from its folder or its repository.

Only the small files are read. The weights are with the server.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runner.inference.engine import EngineError
from runner.inference.server.facts import ServedModel
from runner.physics.shape import ModelShape, shape_from_config


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """What is known of a model without its weights."""

    encode: Callable[[str], list[int]]
    """Text to token ids, special tokens as the tokenizer adds them."""
    decode: Callable[[list[int]], str]
    """Token ids to text, without special tokens: a server adds its own."""
    vocab_size: int
    max_position: int | None
    """The longest context of the configuration, in tokens; None where it does not say."""
    shape: ModelShape | None
    """None where the configuration lacks a size, or the model is a mixture of experts."""


def choose_source(model_id: str, served: ServedModel | None) -> str:
    """Return where a model's small files are: its id; or the server's folder where the id is the server's own name."""
    if Path(model_id).is_dir() or served is None or served.root is None:
        return model_id
    return served.root if Path(served.root).is_dir() else model_id


def read_model_files(model_id: str, revision: str | None) -> ModelFiles:
    """Read a model's tokenizer and configuration.

    Args:
        model_id: a folder, or an id of the hub.
    Raises: EngineError: they cannot be read. The message says what is needed.
    """
    from transformers import AutoConfig, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model_id, revision=revision)
        config = AutoConfig.from_pretrained(model_id, revision=revision)
    except Exception as error:  # errors of many kinds: the hub's, the network's, a broken file's
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(
            f"the tokenizer of model {model_id!r} cannot be read ({first}): it makes the prompts, so the `id` must "
            "be a folder here or an id of Hugging Face"
        ) from error
    text_config = config.get_text_config()
    try:
        shape = shape_from_config({**text_config.to_dict(), "torch_dtype": str(text_config.dtype)}, model_id)
    except (TypeError, ValueError):
        shape = None
    return ModelFiles(
        encode=tokenizer.encode,
        decode=lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)),
        vocab_size=int(getattr(text_config, "vocab_size", None) or len(tokenizer)),
        max_position=getattr(text_config, "max_position_embeddings", None),
        shape=shape,
    )
