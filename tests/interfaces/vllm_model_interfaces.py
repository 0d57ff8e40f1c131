"""What `runner.inference.models` uses of vLLM: the interface of its models, and the layers that they are made of."""

from tests.interfaces.interface import Interface

_LAYERS = "vllm.model_executor.layers"
_MODELS = "vllm.model_executor.models"

VLLM_MODEL = (
    Interface("vllm", "ModelRegistry"),
    Interface(
        f"{_MODELS}.registry", "_ModelRegistry.register_model", ("model_arch", "model_cls"), positional=2, use="call"
    ),
    Interface(f"{_LAYERS}.quantization", "QuantizationConfig"),
    Interface("vllm.compilation.decorators", "support_torch_compile", ("cls",), positional=1, use="call"),
    Interface("vllm.distributed", "get_pp_group", use="call"),
    Interface("vllm.distributed.parallel_state", "GroupCoordinator", attributes=("is_first_rank", "is_last_rank")),
    Interface("vllm.distributed", "get_tensor_model_parallel_world_size", use="call"),
    Interface(f"{_LAYERS}.activation", "get_act_fn", ("act_fn_name",), positional=1, use="call"),
    Interface(
        f"{_LAYERS}.attention",
        "Attention",
        ("num_heads", "head_size", "scale", "cache_config", "quant_config", "per_layer_sliding_window", "prefix"),
        positional=2,
        use="call",
    ),
    Interface(f"{_LAYERS}.attention", "Attention.forward", ("query", "key", "value"), positional=3, use="call"),
    Interface(
        f"{_LAYERS}.linear",
        "QKVParallelLinear",
        ("hidden_size", "head_size", "total_num_heads", "bias", "quant_config", "prefix"),
        positional=3,
        use="call",
    ),
    Interface(
        f"{_LAYERS}.linear",
        "QKVParallelLinear.weight_loader",
        ("param", "loaded_weight", "loaded_shard_id"),
        positional=3,
        use="call",
    ),
    Interface(
        f"{_LAYERS}.linear",
        "QKVParallelLinear.weight_loader_v2",
        ("param", "loaded_weight", "loaded_shard_id"),
        positional=3,
        use="call",
    ),
    Interface(
        f"{_LAYERS}.linear",
        "ColumnParallelLinear",
        ("input_size", "output_size", "bias", "quant_config", "prefix"),
        positional=2,
        use="call",
    ),
    Interface(
        f"{_LAYERS}.linear",
        "RowParallelLinear",
        ("input_size", "output_size", "bias", "quant_config", "prefix"),
        positional=2,
        use="call",
    ),
    Interface(f"{_LAYERS}.logits_processor", "LogitsProcessor", ("vocab_size",), positional=1, use="call"),
    Interface(
        f"{_LAYERS}.logits_processor",
        "LogitsProcessor.forward",
        ("lm_head", "hidden_states"),
        positional=2,
        use="call",
    ),
    Interface(
        f"{_LAYERS}.vocab_parallel_embedding",
        "VocabParallelEmbedding",
        ("num_embeddings", "embedding_dim", "quant_config", "prefix"),
        positional=2,
        use="call",
    ),
    Interface(
        f"{_LAYERS}.vocab_parallel_embedding",
        "VocabParallelEmbedding.forward",
        ("input_",),
        positional=1,
        use="call",
    ),
    Interface(
        f"{_LAYERS}.vocab_parallel_embedding",
        "ParallelLMHead",
        ("num_embeddings", "embedding_dim", "quant_config", "prefix"),
        positional=2,
        use="call",
    ),
    Interface(
        f"{_LAYERS}.vocab_parallel_embedding",
        "ParallelLMHead.tie_weights",
        ("embed_tokens",),
        positional=1,
        use="call",
    ),
    Interface(
        "vllm.model_executor.model_loader.weight_utils",
        "default_weight_loader",
        ("param", "loaded_weight"),
        positional=2,
        use="call",
    ),
    Interface(f"{_MODELS}.interfaces", "SupportsPP", attributes=("supports_pp", "make_empty_intermediate_tensors")),
    Interface(f"{_MODELS}.interfaces_base", "VllmModel", ("vllm_config", "prefix"), use="override"),
    Interface(f"{_MODELS}.interfaces_base", "VllmModel.embed_input_ids", ("input_ids",), use="override"),
    Interface(
        f"{_MODELS}.interfaces_base", "VllmModelForTextGeneration.compute_logits", ("hidden_states",), use="override"
    ),
    Interface(f"{_MODELS}.utils", "is_pp_missing_parameter", ("name", "model"), positional=2, use="call"),
    Interface(
        f"{_MODELS}.utils",
        "make_empty_intermediate_tensors_factory",
        ("keys", "hidden_size"),
        positional=2,
        use="call",
    ),
    Interface(f"{_MODELS}.utils", "make_layers", ("num_hidden_layers", "layer_fn", "prefix"), positional=2, use="call"),
    Interface(f"{_MODELS}.utils", "maybe_prefix", ("prefix", "name"), positional=2, use="call"),
    Interface("vllm.sequence", "IntermediateTensors", ("tensors",), ("__getitem__",), positional=1, use="call"),
)
"""What the plugin and its GPT-Neo use, inside the core's process."""
