"""NarrativeQA: the order of its questions, the prompts, and the scoring of an answer."""

from collections import Counter
from typing import Any

import pyarrow.compute as pc  # type: ignore[import-untyped]
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]


def spread_documents(dataset: Any) -> Any:
    """Return the data set in another order: the first question about each story, then each second one, and so on.

    In the data set, all questions about a story stand together: the first hundred would be about four stories.

    Args:
        dataset: datasets.Dataset with the columns of deepmind/narrativeqa.
    """
    # Arrow reads the ids alone. A row as a Python object would load a whole book.
    documents = dataset.select_columns(["document"]).with_format("arrow")[:].column("document")
    seen: Counter[str] = Counter()
    turns = []
    for story_id in pc.struct_field(documents, "id").to_pylist():
        turns.append(seen[story_id])
        seen[story_id] += 1
    return dataset.select(sorted(range(len(turns)), key=turns.__getitem__))


def ask_about_story(document: dict[str, Any]) -> str:
    """Return the story and the question. The story lies between the first and last words that the data set names."""
    story = document["document"]
    text: str = story["text"]
    begin = max(text.find(story["start"]), 0) if story["start"] else 0
    last = text.rfind(story["end"]) if story["end"] else -1
    end = last + len(story["end"]) if last > begin else len(text)
    return _ask(text[begin:end], document)


def ask_about_summary(document: dict[str, Any]) -> str:
    """Return the summary of the story's plot and the question."""
    return _ask(document["document"]["summary"]["text"], document)


def score_answer(document: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return ROUGE-L (F measure, 0 to 1) against the document's most similar answer."""
    references = [answer["text"] for answer in document["answers"]]
    return {"rougeL": float(RougeScorer(["rougeL"]).score_multi(references, results[0])["rougeL"].fmeasure)}


def _ask(text: str, document: dict[str, Any]) -> str:
    return f"{text.strip()}\n\nQuestion: {document['question']['text'].strip()}\nAnswer:"
