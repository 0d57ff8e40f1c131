import json

import pytest

from runner.tasks.harness import index as harness_index
from runner.tasks.harness import loading as harness_loading
from runner.tasks.harness.index import IndexEntry, read_index
from runner.tasks.loading import check_task_name, describe_task
from runner.tasks.task import TaskError

SMALL_INDEX = {
    "boolq": IndexEntry(kind="task", path="super_glue/boolq/default.yaml", output_type="multiple_choice"),
    "gsm8k": IndexEntry(kind="task", path="gsm8k/gsm8k.yaml", output_type="generate_until"),
    "wikitext": IndexEntry(kind="task", path="wikitext/wikitext.yaml", output_type="loglikelihood_rolling"),
    "mmlu": IndexEntry(kind="group", path=None, output_type="", members=("mmlu_anatomy", "mmlu_virology")),
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def builds(cache, monkeypatch):
    calls = []

    def build():
        calls.append(1)
        return SMALL_INDEX

    monkeypatch.setattr(harness_index, "build_index", build)
    return calls


def test_index_is_built_once_and_then_read_back(builds):
    assert read_index() == SMALL_INDEX
    assert read_index() == SMALL_INDEX
    assert len(builds) == 1


def test_a_broken_cache_is_made_again(builds, cache):
    read_index()
    (path,) = (cache / "joulesweep").iterdir()
    path.write_text('{"boolq": ')
    assert read_index() == SMALL_INDEX
    assert json.loads(path.read_text()).keys() == SMALL_INDEX.keys()
    assert len(builds) == 2


def test_without_a_place_to_write_the_index_is_built_each_time(builds, cache):
    (cache / "joulesweep").write_text("a file where the folder should be")
    assert read_index() == SMALL_INDEX
    assert read_index() == SMALL_INDEX
    assert len(builds) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bolq", "did you mean boolq"),
        ("tiny_qaa", "did you mean tiny_qa"),
        ("zzzzzz", "sweep tasks WORD"),
        ("mmlu", "such as mmlu_anatomy, mmlu_virology"),
        ("wikitext", "loglikelihood_rolling"),
    ],
)
def test_names_that_cannot_be_run_say_what_can(builds, name, message):
    with pytest.raises(TaskError, match=message):
        check_task_name(name)


def test_known_names_pass_and_own_ones_do_not_look(builds):
    check_task_name("tiny_qa")
    check_task_name("synthetic")
    assert not builds
    check_task_name("boolq")
    assert describe_task("boolq").request_kind == "loglikelihood"
    assert describe_task("gsm8k").request_kind == "generate"


def test_the_installed_harness_is_indexed_as_it_describes_itself(cache):
    index = read_index()
    assert index["boolq"].request_kind == "loglikelihood"
    assert index["gsm8k"].request_kind == "generate"
    assert index["mmlu"].kind == index["ai2_arc"].kind == "group"
    assert "arc_easy" in index["ai2_arc"].members
    folder = harness_index.harness_tasks_folder()
    assert all((folder / entry.path).is_file() for entry in index.values() if entry.kind == "task")


def test_data_that_cannot_be_downloaded_points_to_tasks_that_need_none(builds, cache, monkeypatch):
    def refuse(*_):
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr(harness_loading.urllib.request, "getproxies", dict)
    monkeypatch.setenv("HF_HOME", str(cache))
    with pytest.raises(TaskError, match=r"without a network .*tiny_commonsense, tiny_facts, tiny_qa, synthetic"):
        harness_loading.load_harness_task("gsm8k", seed=0)
