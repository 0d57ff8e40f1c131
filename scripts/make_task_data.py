"""Write the data of our own three tasks: python scripts/make_task_data.py

Everything comes from seeded templates and word lists of our own (tiny_passages, tiny_stories, tiny_atlas), so that the
files can be made again byte by byte. The test questions are held out of `training_pages`, from which the small
models are trained: passages by their text, stories by the pair (thing, event), facts by the phrasing of the question.
"""

import itertools
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiny_atlas import TEST_QUESTIONS, TRAIN_QUESTIONS, Fact, ask_facts, make_atlas
from tiny_passages import make_passage
from tiny_stories import EVENTS, THINGS, hold_out_pairs, tell_story

SEED = 20261122
NUM_TEST = 300
NUM_FEWSHOT = 32
NUM_QUESTIONS = 5
"""Most questions on one passage in training."""
NUM_FACTS = 3
"""Facts of one land that are asked for together in training."""
FOLDER = Path(__file__).resolve().parents[1] / "runner" / "tasks" / "own"
TASKS = ("tiny_qa", "tiny_commonsense", "tiny_facts")

Document = dict[str, Any]


def test_documents(task: str) -> list[Document]:
    """Return the NUM_TEST questions of a task's test split, no two alike."""
    rng = random.Random(f"{task}-test-{SEED}")
    stream: Iterator[list[Document]]
    match task:
        case "tiny_qa":
            stream = (make_passage(rng, num_questions=1) for _ in itertools.count())
        case "tiny_commonsense":
            held_out = hold_out_pairs(SEED)
            stream = ([tell_story(held_out, _all_pairs() - held_out, rng)] for _ in itertools.count())
        case "tiny_facts":
            asked = [(fact, question) for fact in make_atlas(SEED) for question in TEST_QUESTIONS[fact.attribute]]
            stream = (ask_facts([pair], rng) for pair in rng.sample(asked, len(asked)))
        case _:
            raise ValueError(f"no such task: {task}")
    documents: dict[str, Document] = {}
    for (document,) in stream:
        documents.setdefault(prompt_of(document), document)
        if len(documents) == NUM_TEST:
            break
    return list(documents.values())


def training_pages(task: str, seed: int) -> Iterator[list[Document]]:
    """Yield without end several questions on one passage or land (one on a story), none of them a test question."""
    rng = random.Random(f"{task}-train-{SEED}-{seed}")
    test_prompts = {prompt_of(document) for document in test_documents(task)}
    allowed = _all_pairs() - hold_out_pairs(SEED)
    lands: dict[str, list[Fact]] = defaultdict(list)
    for fact in make_atlas(SEED):
        lands[fact.land].append(fact)
    while True:
        if task == "tiny_qa":
            page = make_passage(rng, num_questions=NUM_QUESTIONS)
        elif task == "tiny_commonsense":
            page = [tell_story(allowed, allowed, rng)]
        else:
            facts = rng.sample(lands[rng.choice(sorted(lands))], NUM_FACTS)
            page = ask_facts([(fact, rng.choice(TRAIN_QUESTIONS[fact.attribute])) for fact in facts], rng)
        if page := [document for document in page if prompt_of(document) not in test_prompts]:
            yield page


def prompt_of(document: Document) -> str:
    """Return the prompt as the task's YAML makes it; a test holds the two together."""
    return f"{document.get('story') or document['passage']}\n{question_of(document)}"


def question_of(document: Document) -> str:
    """Return the prompt's last part, which follows the passage or story."""
    prompt = f"Question: {document['question']}\nAnswer:"
    return f"{prompt} {document['start']}" if "start" in document else prompt


def answer_of(document: Document) -> str:
    """Return what should follow the prompt, with its leading space."""
    return " " + (document["choices"][document["label"]] if "choices" in document else document["answer"])


def _all_pairs() -> set[tuple[str, str]]:
    return {(thing, event) for things in THINGS.values() for thing in things for event in EVENTS}


def _write_jsonl(path: Path, documents: list[Document]) -> None:
    path.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")


def main() -> None:
    """Write both splits of every task."""
    for task in TASKS:
        _write_jsonl(FOLDER / f"{task}_test.jsonl", test_documents(task))
        pages = itertools.islice(training_pages(task, 1), NUM_FEWSHOT)
        _write_jsonl(FOLDER / f"{task}_fewshot.jsonl", [page[0] for page in pages])


if __name__ == "__main__":
    main()
