"""Train the two small models that ship with the project: python scripts/train_small_models.py [--only NAME]

Both see the same documents (make_task_data.training_pages) and the same tokenizer; they differ in size and, with
it, in what they get right. CPU only; about 15 minutes on two cores. Scores: see models/README.md, which
scripts/evaluate_small_models.py writes.
"""

import argparse
import itertools
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from make_task_data import SEED, TASKS, Document, answer_of, prompt_of, question_of, training_pages
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

FOLDER = Path(__file__).resolve().parents[1] / "models"
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
VOCAB_SIZE = 1024
NUM_TOKENIZER_PAGES = 3000
BATCH_SIZE = 32
SHARES = (0.35, 0.45, 0.2)
"""Of tiny_qa, tiny_commonsense and tiny_facts (TASKS) among the pages."""
NUM_BATCHES_SORTED = 16
"""Batches whose pages are drawn together and sorted by length, so that little is padded."""

SIZES = {
    "joulesweep-small": {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2},
    "joulesweep-large": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 2},
}
NUM_STEPS = 4500
LEARNING_RATE = 3e-3


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer fitted to the training documents; it puts BOS first."""
    texts = [
        text
        for task in TASKS
        for page in itertools.islice(training_pages(task, 0), NUM_TOKENIZER_PAGES)
        for text, _ in lay_out(page)
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            special_tokens=[PAD, BOS, EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def make_model(name: str, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return an untrained model of the named size; heads of 32, the least that vLLM's CPU backend takes."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB_SIZE,
            head_dim=32,
            max_position_embeddings=1024,
            initializer_range=0.08,  # at the usual 0.02, models this narrow take very long to learn to look back
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **SIZES[name],
        )
    )


def lay_out(page: list[Document]) -> list[tuple[str, bool]]:
    """Return a page's text in pieces, each with whether it is an answer, which is what the model learns to write."""
    pieces = []
    for i, document in enumerate(page):
        pieces += [(question_of(document) if i else prompt_of(document), False), (answer_of(document) + "\n", True)]
    return pieces


def draw_batches(tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (tokens, is_answer), both [BATCH_SIZE, length], pages of all tasks mixed, padded on the right."""
    streams = [training_pages(task, 0) for task in TASKS]
    rng = random.Random(SEED)
    while True:
        drawn = rng.choices(streams, SHARES, k=BATCH_SIZE * NUM_BATCHES_SORTED)
        pages = [next(stream) for stream in drawn]
        rows = sorted((encode_page(tokenizer, page) for page in pages), key=len)
        batches = [rows[i : i + BATCH_SIZE] for i in range(0, len(rows), BATCH_SIZE)]
        rng.shuffle(batches)
        for batch in batches:
            table = torch.full((len(batch), len(batch[-1]), 2), tokenizer.pad_token_id)
            for i, row in enumerate(batch):
                table[i, : len(row)] = torch.tensor(row)
            yield table[..., 0], table[..., 1] == 1


def encode_page(tokenizer: PreTrainedTokenizerFast, page: list[Document]) -> list[tuple[int, int]]:
    """Return (token id, 1 if it belongs to an answer) from the begin-of-text token to the end-of-text token."""
    row = [(tokenizer.bos_token_id, 0)]
    for text, is_answer in lay_out(page):
        row += [(token_id, int(is_answer)) for token_id in tokenizer.encode(text, add_special_tokens=False)]
    return [*row, (tokenizer.eos_token_id, 1)]


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, num_steps: int, learning_rate: float) -> None:
    """Fit the answers (not the prompts) with AdamW, a short warm-up and a cosine to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    num_warmup = num_steps // 20
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: min((i + 1) / num_warmup, 0.5 + 0.5 * math.cos(math.pi * i / num_steps)),
    )
    start = time.monotonic()
    model.train()
    for step, (tokens, is_answer) in enumerate(itertools.islice(draw_batches(tokenizer), num_steps)):
        hidden = model.model(tokens[:, :-1]).last_hidden_state
        logits = model.lm_head(hidden[is_answer[:, 1:]])
        loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:][is_answer[:, 1:]])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == num_steps - 1:
            print(f"step {step} loss {loss.item():.3f} {time.monotonic() - start:.0f} s", flush=True)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a Hugging Face folder with weights in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # Named for what every supported version of transformers can load.
    path = folder / "tokenizer_config.json"
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "model_max_length": model.config.max_position_embeddings,
    }
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SIZES)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--num-steps", type=int, default=NUM_STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # matrices this small gain nothing from a second one
    tokenizer = train_tokenizer()
    for name in [arguments.only] if arguments.only else SIZES:
        torch.manual_seed(SEED)
        model = make_model(name, tokenizer)
        print(f"{name}: {model.num_parameters()} parameters")
        train(model, tokenizer, num_steps=arguments.num_steps, learning_rate=LEARNING_RATE)
        save(model, tokenizer, arguments.out / name)


if __name__ == "__main__":
    main()
