"""The tasks of the study (docs/study.md): their names, their metrics and their lengths.

Three tasks are lm-evaluation-harness's own. The YAML of the others is in this folder. All of them read public data sets
from Hugging Face when they are loaded. Importing this module is cheap.
"""

from dataclasses import dataclass
from pathlib import Path

from runner.spec.request import RequestKind

STUDY_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyTask:
    """What is known of a task before its data is read. Lengths are round figures for plans (docs/study.md)."""

    subject: str
    request_kind: RequestKind
    metric: str
    """The metric that judges it unless the sweep file names another."""
    num_documents: int
    num_requests_per_document: int = 1
    num_prompt_tokens: int
    """Includes the task's own few-shot examples."""
    num_output_tokens: int
    """Length of an answer that ends by itself; 0 for loglikelihood."""


_ANSWERING, _COMMONSENSE, _FACTS = "question answering", "commonsense reasoning", "factual generation"
STUDY_TASKS = {
    "boolq": StudyTask(
        subject=_ANSWERING,
        request_kind="loglikelihood",
        metric="acc",
        num_documents=3270,
        num_requests_per_document=2,
        num_prompt_tokens=150,
        num_output_tokens=0,
    ),
    "boolq_generate": StudyTask(
        subject=_ANSWERING,
        request_kind="generate",
        metric="exact_match",
        num_documents=3270,
        num_prompt_tokens=450,
        num_output_tokens=2,
    ),
    "narrativeqa": StudyTask(
        subject=_ANSWERING,
        request_kind="generate",
        metric="rougeL",
        num_documents=3461,
        num_prompt_tokens=80_000,
        num_output_tokens=10,
    ),
    "narrativeqa_summary": StudyTask(
        subject=_ANSWERING,
        request_kind="generate",
        metric="rougeL",
        num_documents=3461,
        num_prompt_tokens=850,
        num_output_tokens=10,
    ),
    "hellaswag": StudyTask(
        subject=_COMMONSENSE,
        request_kind="loglikelihood",
        metric="acc_norm",
        num_documents=10_042,
        num_requests_per_document=4,
        num_prompt_tokens=90,
        num_output_tokens=0,
    ),
    "hellaswag_generate": StudyTask(
        subject=_COMMONSENSE,
        request_kind="generate",
        metric="exact_match",
        num_documents=10_042,
        num_prompt_tokens=550,
        num_output_tokens=2,
    ),
    "truthfulqa_gen": StudyTask(
        subject=_FACTS,
        request_kind="generate",
        metric="rouge1_acc",
        num_documents=817,
        num_prompt_tokens=150,
        num_output_tokens=30,
    ),
}


def study_file(name: str) -> Path | None:
    """Return the YAML of a task of the study; None if it is the harness's own, or not of the study."""
    path = STUDY_FOLDER / f"{name}.yaml"
    return path if name in STUDY_TASKS and path.is_file() else None
