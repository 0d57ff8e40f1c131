import pytest

from runner.tasks import listing
from runner.tasks.harness.index import IndexEntry
from runner.tasks.listing import list_tasks
from runner.tasks.loading import task_names
from runner.tasks.study.tasks import STUDY_TASKS

INDEX = {
    "boolq": IndexEntry(kind="task", path="super_glue/boolq/default.yaml", output_type="multiple_choice"),
    "boolq-seq2seq": IndexEntry(kind="task", path="super_glue/boolq/seq2seq.yaml", output_type="generate_until"),
    "arc_easy": IndexEntry(kind="task", path="arc/arc_easy.yaml", output_type="multiple_choice"),
    "wikitext": IndexEntry(kind="task", path="wikitext/wikitext.yaml", output_type="loglikelihood_rolling"),
    "mmlu": IndexEntry(kind="group", path=None, output_type="", members=("mmlu_anatomy", "mmlu_virology")),
}


@pytest.fixture(autouse=True)
def small_index(monkeypatch):
    monkeypatch.setattr(listing, "read_index", lambda: INDEX)


def test_ours_come_first_then_the_studys_then_the_harnesss_each_once():
    names = [task.name for task in list_tasks()]
    assert names == [*task_names(), *STUDY_TASKS, "arc_easy", "boolq-seq2seq", "mmlu", "wikitext"]
    assert [task.origin for task in list_tasks()] == ["own"] * 4 + ["study"] * 7 + ["harness"] * 4


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tiny_qa", "generating"),
        ("tiny_commonsense", "prefill only"),
        ("synthetic", "generating"),
        ("boolq", "prefill only"),
        ("boolq_generate", "generating"),
        ("arc_easy", "prefill only"),
        ("boolq-seq2seq", "generating"),
        ("wikitext", "not supported"),
        ("mmlu", "several tasks"),
    ],
)
def test_kinds(name, kind):
    assert {task.name: task.kind for task in list_tasks()}[name] == kind


def test_a_word_searches_names_and_subjects_in_either_case():
    assert [task.name for task in list_tasks("BOOLQ")] == ["boolq", "boolq_generate", "boolq-seq2seq"]
    commonsense = [task.name for task in list_tasks("commonsense")]
    assert commonsense == ["tiny_commonsense", "hellaswag", "hellaswag_generate"]
    assert list_tasks("zzzz") == []


def test_metrics_are_those_that_will_be_reported():
    metrics = {task.name: task.metric for task in list_tasks()}
    assert (metrics["tiny_qa"], metrics["hellaswag"], metrics["synthetic"]) == ("exact_match", "acc_norm", None)
