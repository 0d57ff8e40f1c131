import random

import numpy as np
import pytest

from runner.tasks.harness import loading as harness_loading
from runner.tasks.harness.loading import find_harness_task, seeded
from runner.tasks.loading import check_task_name, describe_task
from runner.tasks.task import TaskError


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


def test_a_single_task_is_found_by_its_name(builds):
    assert find_harness_task("gsm8k").path == "gsm8k/gsm8k.yaml"


def test_data_that_cannot_be_downloaded_points_to_tasks_that_need_none(builds, cache, monkeypatch):
    def refuse(*_):
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr(harness_loading.urllib.request, "getproxies", dict)
    monkeypatch.setenv("HF_HOME", str(cache))
    with pytest.raises(TaskError, match=r"without a network .*tiny_commonsense, tiny_facts, tiny_qa, synthetic"):
        harness_loading.load_harness_task("gsm8k", seed=0)


def test_the_global_generators_are_seeded_for_a_block_and_then_put_back():
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    with seeded(5):
        first = random.random(), np.random.random()
    with seeded(5):
        assert (random.random(), np.random.random()) == first
    assert (random.random(), np.random.random()) == expected
