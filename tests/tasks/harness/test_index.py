import json

from runner.tasks.harness import index as harness_index
from runner.tasks.harness.index import read_index
from tests.tasks.harness.small_index import SMALL_INDEX


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


def test_the_installed_harness_is_indexed_as_it_describes_itself(cache):
    index = read_index()
    assert index["boolq"].request_kind == "loglikelihood"
    assert index["gsm8k"].request_kind == "generate"
    assert index["mmlu"].kind == index["ai2_arc"].kind == "group"
    assert "arc_easy" in index["ai2_arc"].members
    folder = harness_index.harness_tasks_folder()
    assert all((folder / entry.path).is_file() for entry in index.values() if entry.kind == "task")
