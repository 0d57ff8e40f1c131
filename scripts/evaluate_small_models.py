"""Score the two small models on our own tasks with transformers; print the table of models/README.md.

python scripts/evaluate_small_models.py
"""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

import torch
from make_task_data import FOLDER as TASK_FOLDER
from make_task_data import TASKS, Document, prompt_of
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from runner.tasks.own.tasks import read_own_config  # noqa: E402

FOLDER = ROOT / "models"
MODELS = ("joulesweep-small", "joulesweep-large")
MAX_NEW_TOKENS = 16
BATCH_SIZE = 100


def read_test(task: str) -> list[Document]:
    """Return a task's shipped test questions."""
    return [json.loads(line) for line in (TASK_FOLDER / f"{task}_test.jsonl").read_text(encoding="utf-8").splitlines()]


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Return (model in float32, tokenizer) of a folder."""
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(
        folder
    )


@torch.inference_mode()
def score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, task: str, documents: list[Document]
) -> list[bool]:
    """Return whether each document is answered rightly: greedy exact match, or the likeliest of four choices."""
    is_right = []
    for i in range(0, len(documents), BATCH_SIZE):
        batch = documents[i : i + BATCH_SIZE]
        if task == "tiny_commonsense":
            is_right += _score_choices(model, tokenizer, batch)
        else:
            is_right += _score_answers(model, tokenizer, batch)
    return is_right


def _score_answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> list[bool]:
    tokenizer.padding_side = "left"
    inputs = tokenizer([prompt_of(document) for document in documents], return_tensors="pt", padding=True)
    outputs = model.generate(
        input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=MAX_NEW_TOKENS, do_sample=False
    )
    texts = tokenizer.batch_decode(outputs[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    return [text.split("\n")[0].strip() == document["answer"] for text, document in zip(texts, documents, strict=True)]


def _score_choices(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> list[bool]:
    prompts = [prompt_of(document) for document in documents for _ in document["choices"]]
    choices = [choice for document in documents for choice in document["choices"]]
    num_context = [len(tokenizer(prompt).input_ids) for prompt in prompts]
    tokenizer.padding_side = "right"
    inputs = tokenizer([f"{a} {b}" for a, b in zip(prompts, choices, strict=True)], return_tensors="pt", padding=True)
    logprobs = model(inputs.input_ids).logits[:, :-1].log_softmax(-1)
    scored = logprobs.gather(-1, inputs.input_ids[:, 1:, None])[..., 0]
    position = torch.arange(1, inputs.input_ids.shape[1])
    is_choice = (position >= torch.tensor(num_context)[:, None]) & (inputs.attention_mask[:, 1:] == 1)
    sums = (scored * is_choice).sum(-1).view(len(documents), -1)
    labels = torch.tensor([document["label"] for document in documents])
    return (sums.argmax(-1) == labels).tolist()


def wilson_interval(is_right: list[bool], z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, 1927)."""
    n = len(is_right)
    p = sum(is_right) / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return centre - half, centre + half


def paired_interval(better: list[bool], worse: list[bool], z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares over the same questions."""
    differences = [a - b for a, b in zip(better, worse, strict=True)]
    mean = statistics.mean(differences)
    half = z * statistics.stdev(differences) / math.sqrt(len(differences))
    return mean - half, mean + half


def score_all(folder: Path) -> dict[str, dict[str, list[bool]]]:
    """Return model -> task -> whether each test question is answered rightly."""
    return {
        name: {task: score(model, tokenizer, task, read_test(task)) for task in TASKS}
        for name in MODELS
        for model, tokenizer in [load(folder / name)]
    }


def draw_table(scores: dict[str, dict[str, list[bool]]]) -> list[str]:
    """Return the rows of a Markdown table: accuracy, interval and chance, and how much better the larger one is."""
    small, large = MODELS
    rows = [
        f"| task | questions | chance | {small} | {large} | difference |",
        "|---|---|---|---|---|---|",
    ]
    pooled = {name: [is_right for task in TASKS for is_right in scores[name][task]] for name in MODELS}
    for task in (*TASKS, "all"):
        of = {name: pooled[name] if task == "all" else scores[name][task] for name in MODELS}
        chance = "" if task == "all" else f"{read_own_config(task)['metadata']['chance']:.3f}"
        cells = [
            f"{sum(of[name]) / len(of[name]):.3f} [{{:.3f}}, {{:.3f}}]".format(*wilson_interval(of[name]))
            for name in MODELS
        ]
        low, high = paired_interval(of[large], of[small])
        rows.append(f"| {task} | {len(of[small])} | {chance} | {cells[0]} | {cells[1]} | [{low:+.3f}, {high:+.3f}] |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    print("\n".join(draw_table(score_all(arguments.models))))


if __name__ == "__main__":
    main()
