"""A Llama of a few hundred thousand random weights, with a tokenizer of whole words, made on the spot."""

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


def save_model(folder: Path, seed: int = 0) -> Path:
    """Seeded weights, and a tokenizer that knows "w3" ... "w511"."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    vocab = dict.fromkeys([*special.values(), *(f"w{i}" for i in range(3, VOCAB_SIZE))])
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocab)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**CONFIG)).save_pretrained(folder)
    return folder


def prompt(index: int, num_tokens: int) -> tuple[int, ...]:
    return tuple(3 + (index * 37 + position * 11) % (VOCAB_SIZE - 3) for position in range(num_tokens))
