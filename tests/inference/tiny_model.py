"""The configuration of a Llama of a few hundred thousand weights, and prompts for small models."""

import json
from pathlib import Path

VOCAB_SIZE = 512
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def save_config(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def prompt(index: int, num_tokens: int) -> tuple[int, ...]:
    return tuple(3 + (index * 37 + position * 11) % (VOCAB_SIZE - 3) for position in range(num_tokens))
