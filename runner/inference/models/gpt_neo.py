"""GPT-Neo for vLLM: token ids and positions enter, logits leave; Hugging Face checkpoints load by their own names.

Layers alternate between global attention and local attention over the last `window_size` tokens. Scores are not
scaled by 1/sqrt(d), positions are learned, and the head is the token embedding. The source is transformers'
GPTNeoForCausalLM, which tests/inference/models/test_gpt_neo.py compares it with.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import nn
from vllm.compilation.decorators import support_torch_compile
from vllm.config import CacheConfig, VllmConfig
from vllm.distributed import get_pp_group, get_tensor_model_parallel_world_size
from vllm.model_executor.layers.activation import get_act_fn
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.linear import ColumnParallelLinear, QKVParallelLinear, RowParallelLinear
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.quantization import QuantizationConfig
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.weight_utils import default_weight_loader
from vllm.model_executor.models.interfaces import SupportsPP
from vllm.model_executor.models.utils import (
    is_pp_missing_parameter,
    make_empty_intermediate_tensors_factory,
    make_layers,
    maybe_prefix,
)
from vllm.sequence import IntermediateTensors

_MASKS = (".attn.bias", ".attn.masked_bias")
"""Buffers of older checkpoints: the causal mask, which the attention backend makes itself."""
_SHARDS = {f".{shard}_proj.": shard for shard in "qkv"}


class GPTNeoAttention(nn.Module):  # type: ignore[misc]
    """Self-attention of one layer, global or local."""

    def __init__(
        self,
        config: Any,
        layer: int,
        cache_config: CacheConfig | None,
        quant_config: QuantizationConfig | None,
        prefix: str,
    ) -> None:
        super().__init__()
        hidden_size, num_heads = config.hidden_size, config.num_heads
        self.qkv_proj = QKVParallelLinear(
            hidden_size,
            hidden_size // num_heads,
            num_heads,
            bias=False,
            quant_config=quant_config,
            prefix=f"{prefix}.qkv_proj",
        )
        self.out_proj = RowParallelLinear(
            hidden_size, hidden_size, bias=True, quant_config=quant_config, prefix=f"{prefix}.out_proj"
        )
        self.attn = Attention(
            num_heads // get_tensor_model_parallel_world_size(),
            hidden_size // num_heads,
            scale=1.0,
            cache_config=cache_config,
            quant_config=quant_config,
            per_layer_sliding_window=config.window_size if config.attention_layers[layer] == "local" else None,
            prefix=f"{prefix}.attn",
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return [num_tokens, hidden_size] from [num_tokens, hidden_size]."""
        qkv, _ = self.qkv_proj(hidden_states)
        query, key, value = qkv.chunk(chunks=3, dim=-1)
        output, _ = self.out_proj(self.attn(query, key, value))
        return output


class GPTNeoMLP(nn.Module):  # type: ignore[misc]
    """The feed-forward half of a layer."""

    def __init__(self, config: Any, quant_config: QuantizationConfig | None, prefix: str) -> None:
        super().__init__()
        inner_size = config.intermediate_size or 4 * config.hidden_size
        self.c_fc = ColumnParallelLinear(
            config.hidden_size, inner_size, bias=True, quant_config=quant_config, prefix=f"{prefix}.c_fc"
        )
        self.c_proj = RowParallelLinear(
            inner_size, config.hidden_size, bias=True, quant_config=quant_config, prefix=f"{prefix}.c_proj"
        )
        self.act = get_act_fn(config.activation_function)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return [num_tokens, hidden_size] from [num_tokens, hidden_size]."""
        inner, _ = self.c_fc(hidden_states)
        output, _ = self.c_proj(self.act(inner))
        return output


class GPTNeoBlock(nn.Module):  # type: ignore[misc]
    """One layer: attention, then feed-forward, each behind a norm and around a residual."""

    def __init__(
        self,
        config: Any,
        cache_config: CacheConfig | None,
        quant_config: QuantizationConfig | None,
        prefix: str,
    ) -> None:
        super().__init__()
        layer = int(prefix.rsplit(".", 1)[-1])
        self.ln_1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.attn = GPTNeoAttention(config, layer, cache_config, quant_config, prefix=f"{prefix}.attn")
        self.ln_2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.mlp = GPTNeoMLP(config, quant_config, prefix=f"{prefix}.mlp")

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return [num_tokens, hidden_size] from [num_tokens, hidden_size]."""
        hidden_states = hidden_states + self.attn(self.ln_1(hidden_states))
        return hidden_states + self.mlp(self.ln_2(hidden_states))


@support_torch_compile
class GPTNeoModel(nn.Module):  # type: ignore[misc]
    """Embeddings and layers, without the head."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config, quant_config = vllm_config.model_config.hf_config, vllm_config.quant_config
        max_model_len = vllm_config.model_config.max_model_len
        if max_model_len > config.max_position_embeddings:  # VLLM_ALLOW_LONG_MAX_MODEL_LEN lets it through
            raise ValueError(
                f"max_model_len is {max_model_len}, but this GPT-Neo has learned {config.max_position_embeddings} "
                "positions and no others; allowed: 1 to as many"
            )
        self.wte = VocabParallelEmbedding(
            config.vocab_size, config.hidden_size, quant_config=quant_config, prefix=f"{prefix}.wte"
        )
        self.wpe = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.start_layer, self.end_layer, self.h = make_layers(
            config.num_layers,
            lambda prefix: GPTNeoBlock(config, vllm_config.cache_config, quant_config, prefix=prefix),
            prefix=f"{prefix}.h",
        )
        self.ln_f = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.make_empty_intermediate_tensors = make_empty_intermediate_tensors_factory(
            ["hidden_states"], config.hidden_size
        )

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return [num_tokens, hidden_size] from [num_tokens]."""
        return self.wte(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        position_ids: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None,
        inputs_embeds: torch.Tensor | None,
    ) -> torch.Tensor | IntermediateTensors:
        """Return the last hidden states, [num_tokens, hidden_size], or what the next pipeline stage needs."""
        if get_pp_group().is_first_rank:
            embeds = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
            hidden_states = embeds + self.wpe(position_ids)
        else:
            assert intermediate_tensors is not None
            hidden_states = intermediate_tensors["hidden_states"]
        for layer in islice(self.h, self.start_layer, self.end_layer):
            hidden_states = layer(hidden_states)
        if not get_pp_group().is_last_rank:
            return IntermediateTensors({"hidden_states": hidden_states})
        return self.ln_f(hidden_states)


class GPTNeoForCausalLM(nn.Module, SupportsPP):  # type: ignore[misc]
    """The model as vLLM opens it."""

    packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}  # noqa: RUF012 - vLLM's name and kind

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        self.transformer = GPTNeoModel(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "transformer"))
        self.lm_head = ParallelLMHead(
            config.vocab_size,
            config.hidden_size,
            quant_config=vllm_config.quant_config,
            prefix=maybe_prefix(prefix, "lm_head"),
        )
        self._tied = bool(config.tie_word_embeddings)
        if self._tied:
            self.lm_head = self.lm_head.tie_weights(self.transformer.wte)
        self.logits_processor = LogitsProcessor(config.vocab_size)
        self.make_empty_intermediate_tensors = self.transformer.make_empty_intermediate_tensors

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return [num_tokens, hidden_size] from [num_tokens]."""
        return self.transformer.embed_input_ids(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor | IntermediateTensors:
        """Return the last hidden states, [num_tokens, hidden_size], or what the next pipeline stage needs."""
        return self.transformer(input_ids, positions, intermediate_tensors, inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """Return [num_tokens, vocab_size] from [num_tokens, hidden_size]."""
        return self.logits_processor(self.lm_head, hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load a Hugging Face checkpoint; returns the names of the parameters that were filled."""
        parameters = dict(self.named_parameters(remove_duplicate=False))
        loaded: set[str] = set()
        for checkpoint_name, tensor in weights:
            # Checkpoints of the bare model lack the prefix; the layer's `attn` is the attention itself here.
            prefix = "" if checkpoint_name.startswith(("transformer.", "lm_head.")) else "transformer."
            name = prefix + checkpoint_name.replace(".attn.attention.", ".attn.")
            if name.endswith(_MASKS) or (name == "lm_head.weight" and self._tied):
                continue
            shard_name = next((part for part in _SHARDS if part in name), None)
            if shard_name is not None:
                name = name.replace(shard_name, ".qkv_proj.")
            if is_pp_missing_parameter(name, self):
                continue
            parameter = parameters[name]
            if shard_name is None:
                getattr(parameter, "weight_loader", default_weight_loader)(parameter, tensor)
            else:
                parameter.weight_loader(parameter, tensor, _SHARDS[shard_name])
            loaded.add(name)
        return loaded
