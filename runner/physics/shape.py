"""A model's shape, and what a step of it costs in FLOPs and bytes.

A step's token counts enter, FLOPs and bytes leave. Shapes come from Hugging Face `config.json` files, and `shapes/`
holds some real ones: vLLM loads them with random weights, and a simulated GPU computes their time and power. Next:
`gpu_model.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class StepWork:
    """The work of one engine step."""

    num_prefill_tokens: int
    num_decode_tokens: int
    num_attended_tokens: int
    """Context tokens that each token of the step attends to, summed over the tokens. Gives attention's FLOPs."""
    num_kv_tokens: int
    """Context tokens whose KV entries each request reads once, summed over the requests. Gives attention's bytes."""
    num_logit_rows: int
    """Positions with logits: one for each request, or every prompt token for log-likelihoods of prompts."""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A dense decoder-only transformer, described by what decides its FLOPs and bytes."""

    name: str
    num_layers: int
    hidden_size: int
    num_attention_heads: int
    num_kv_heads: int
    head_size: int
    intermediate_size: int
    vocab_size: int
    tie_embeddings: bool
    gated_mlp: bool = True
    bytes_per_weight: float = 2
    bytes_per_activation: float = 2
    """Also the bytes of one element of the KV cache."""

    @cached_property
    def num_layer_parameters(self) -> int:
        """Weights of all layers' matrices. Norms and biases, under 0.1 %, are left out."""
        attention = 2 * self.hidden_size * self.head_size * (self.num_attention_heads + self.num_kv_heads)
        mlp = (3 if self.gated_mlp else 2) * self.hidden_size * self.intermediate_size
        return self.num_layers * (attention + mlp)

    @cached_property
    def num_head_parameters(self) -> int:
        """Weights of the output projection."""
        return self.hidden_size * self.vocab_size

    @cached_property
    def num_parameters(self) -> int:
        """All weights. Tied embeddings count once."""
        return self.num_layer_parameters + self.num_head_parameters * (1 if self.tie_embeddings else 2)

    @cached_property
    def weight_bytes(self) -> float:
        """Bytes of memory that the weights take."""
        return self.num_parameters * self.bytes_per_weight

    @cached_property
    def kv_bytes_per_token(self) -> float:
        """Bytes that one token of context takes in the KV cache, all layers together."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_size * self.bytes_per_activation

    @cached_property
    def _flops_per_attended_token(self) -> int:
        return 4 * self.num_layers * self.num_attention_heads * self.head_size

    def flops(self, work: StepWork) -> float:
        """Return the floating-point operations of a step. A multiply-add counts as two."""
        num_tokens = work.num_prefill_tokens + work.num_decode_tokens
        return (
            2 * self.num_layer_parameters * num_tokens
            + 2 * self.num_head_parameters * work.num_logit_rows
            + self._flops_per_attended_token * work.num_attended_tokens
        )

    def bytes(self, work: StepWork) -> float:
        """Return the bytes that a step moves to and from memory: the weights once, and KV entries read and written."""
        num_tokens = work.num_prefill_tokens + work.num_decode_tokens
        if num_tokens == 0:
            return 0.0
        num_weights = self.num_layer_parameters + (self.num_head_parameters if work.num_logit_rows else 0)
        return num_weights * self.bytes_per_weight + self.kv_bytes_per_token * (work.num_kv_tokens + num_tokens)


def decode_work(num_requests: int, num_context_tokens: float) -> StepWork:
    """Return a step in which each request generates one token. Each has `num_context_tokens` of context."""
    num_kv_tokens = round(num_requests * num_context_tokens)
    return StepWork(
        num_prefill_tokens=0,
        num_decode_tokens=num_requests,
        num_attended_tokens=num_kv_tokens,
        num_kv_tokens=num_kv_tokens,
        num_logit_rows=num_requests,
    )


def prefill_work(num_requests: int, num_prompt_tokens: int) -> StepWork:
    """Return a step that computes whole prompts and the first token of each."""
    return StepWork(
        num_prefill_tokens=num_requests * num_prompt_tokens,
        num_decode_tokens=0,
        num_attended_tokens=num_requests * num_prompt_tokens * (num_prompt_tokens + 1) // 2,
        num_kv_tokens=0,
        num_logit_rows=num_requests,
    )


_UNGATED_MODEL_TYPES = frozenset({"gpt2", "gpt_neo", "gpt_neox", "gptj", "falcon", "opt", "phi", "bloom", "starcoder2"})
_TIED_UNLESS_SAID = frozenset({"gpt2", "gpt_neo", "falcon", "opt", "bloom", "gemma", "gemma2"})
_BYTES_PER_DTYPE = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}
_EXPERT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts")


def shape_from_config(config: Mapping[str, Any], name: str | None = None) -> ModelShape:
    """Return the shape that a Hugging Face config.json describes.

    It may have the keys of Llama, Mistral, Qwen, GPT-NeoX, Falcon, GPT-Neo or GPT-2.

    Raises: ValueError: a size is missing, or the model is a mixture of experts, which the GPU model does not cover.
    """
    if any((config.get(key) or 1) > 1 for key in _EXPERT_KEYS):
        raise ValueError(
            "the GPU model covers dense models only; set `twin` to a dense shape for this mixture of experts"
        )
    model_type = config.get("model_type", "")
    hidden_size = _size(config, "hidden_size", "n_embd")
    num_attention_heads = _size(config, "num_attention_heads", "num_heads", "n_head")
    intermediate_keys = ("intermediate_size", "ffn_hidden_size", "n_inner")
    quantized = (config.get("quantization_config") or {}).get("quant_method") in ("fp8", "compressed-tensors")
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16").removeprefix("torch.")
    bytes_per_activation = _BYTES_PER_DTYPE.get(dtype, 2)
    return ModelShape(
        name=name or config.get("_name_or_path") or model_type or "model",
        num_layers=_size(config, "num_hidden_layers", "num_layers", "n_layer"),
        hidden_size=hidden_size,
        num_attention_heads=num_attention_heads,
        num_kv_heads=_num_kv_heads(config, num_attention_heads),
        head_size=config.get("head_dim") or hidden_size // num_attention_heads,
        intermediate_size=next((config[key] for key in intermediate_keys if config.get(key)), 4 * hidden_size),
        vocab_size=_size(config, "vocab_size"),
        tie_embeddings=config.get("tie_word_embeddings", model_type in _TIED_UNLESS_SAID),
        gated_mlp=model_type not in _UNGATED_MODEL_TYPES,
        bytes_per_weight=1 if quantized else bytes_per_activation,
        bytes_per_activation=bytes_per_activation,
    )


def _num_kv_heads(config: Mapping[str, Any], num_attention_heads: int) -> int:
    if config.get("model_type") == "falcon" and not config.get("new_decoder_architecture"):
        return 1 if config.get("multi_query", True) else num_attention_heads
    return config.get("num_key_value_heads") or config.get("num_kv_heads") or num_attention_heads


def _size(config: Mapping[str, Any], *keys: str) -> int:
    for key in keys:
        if config.get(key):
            return int(config[key])
    raise ValueError(f"the model's config.json has none of {', '.join(keys)}: its shape cannot be read")


SHAPES_DIR = Path(__file__).parent / "shapes"
DEFAULT_SHAPE = "qwen2.5-32b"
"""The shape that stands for a model where neither the sweep file nor the model's id names one."""


def shape_names() -> list[str]:
    """Return the names that `get_shape` knows."""
    return sorted(path.parent.name for path in SHAPES_DIR.glob("*/config.json"))


def find_modelled_shape(model_id: str, named: str | None) -> str:
    """Return the name of the shape whose seconds and joules stand for a model's.

    Args:
        named: the shape that the sweep file names (`twin`). Without it, the shape of the model's own name stands for
            the model, or `DEFAULT_SHAPE` where there is no shape of that name.
    """
    own_name = model_id.rpartition("/")[2].lower()
    return named or (own_name if own_name in shape_names() else DEFAULT_SHAPE)


@lru_cache
def get_shape(name: str) -> ModelShape:
    """Return the shape of `shapes/NAME/config.json`.

    Raises: ValueError: no shape has this name; the message lists the names.
    """
    if name not in shape_names():
        raise ValueError(f"no shape is called {name!r}; there are {', '.join(shape_names())}")
    return shape_from_config(json.loads((SHAPES_DIR / name / "config.json").read_text()), name)
