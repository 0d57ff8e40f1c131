import pickle
import subprocess
import sys

import pytest

from runner.spec.sweep import TaskSpec
from runner.tasks.loading import describe_task, load_task, task_names
from runner.tasks.task import TaskError


def encode(text):
    return [ord(character) for character in text]


def test_names():
    assert task_names() == ("tiny_commonsense", "tiny_facts", "tiny_qa", "synthetic")


@pytest.mark.parametrize("name", ["tiny_commonsense", "tiny_facts", "tiny_qa", "synthetic"])
def test_every_task_keeps_the_protocol(name):
    lengths = {"num_prompt_tokens": 8, "num_output_tokens": 4, "num_requests": 5}
    spec = TaskSpec(name=name, **(lengths if name == "synthetic" else {"limit": 5}))
    task = load_task(spec, seed=0)
    requests = task.requests(encode, max_model_len=2048, vocab_size=1000)
    assert task.name == name
    assert {request.kind for request in requests} == {task.request_kind} == {describe_task(name).request_kind}
    assert list(dict.fromkeys(r.sample_id for r in requests)) == [s.sample_id for s in task.samples()]
    assert len({request.request_id for request in requests}) == len(requests)
    assert all(request.request_id.startswith(f"{name}/") for request in requests)
    assert (task.chance is None) == (name == "synthetic")
    assert load_task(spec, seed=0).requests(encode, max_model_len=2048, vocab_size=1000) == requests
    pickle.dumps((requests, task.samples()))


def test_the_tasks_own_length_comes_before_the_sweeps():
    def length(spec, **arguments):
        task = load_task(spec, seed=0, **arguments)
        return task.requests(encode, max_model_len=2048, vocab_size=1000)[0].max_output_tokens

    assert length(TaskSpec(name="tiny_qa", limit=1)) == 16
    assert length(TaskSpec(name="tiny_qa", limit=1), max_output_tokens=64) == 64
    assert length(TaskSpec(name="tiny_qa", limit=1, max_output_tokens=32), max_output_tokens=64) == 32


def test_phases_of_a_task_that_generates_nothing_are_an_error():
    with pytest.raises(TaskError, match="'tiny_commonsense' generates nothing, so all of it is prefill"):
        load_task(TaskSpec(name="tiny_commonsense", limit=1, phases="output_lengths"), seed=0)


def test_importing_and_describing_are_light():
    code = (
        "import sys; from runner.tasks.loading import describe_task, task_names; describe_task('tiny_qa'); "
        "print(sorted({'lm_eval', 'datasets', 'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
