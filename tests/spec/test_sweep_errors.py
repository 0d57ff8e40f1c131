"""Malformed sweep files: each gets one message that names the field, the value and what is allowed."""

from pathlib import Path

import pytest

from runner.spec.sweep import SweepFileError, load_sweep
from runner.spec.trial import expand_trials

HEAD = 'name = "x"\n'
MODEL = '[[model]]\nid = "m"\n'
TASK = '[[task]]\nname = "boolq"\n'
BODY = MODEL + TASK
SYNTHETIC = '[[task]]\nname = "synthetic"\nnum_prompt_tokens = 8\nnum_requests = 8\n'

MALFORMED = [
    ("", "name is missing: a sweep needs name, at least one [[model]] and at least one [[task]]"),
    (HEAD + TASK, "model is missing: a sweep needs name, at least one [[model]] and at least one [[task]]"),
    (HEAD + "model = []\n" + TASK, "model is empty: give at least one value"),
    ('name = "a b"\n' + BODY, 'name = "a b" is not a name: use letters, digits, ".", "_" and "-"'),
    (HEAD + "repeat = 3\n" + BODY, 'did you mean "repeats"?'),
    (HEAD + 'repeats = "3"\n' + BODY, 'repeats = "3" is not allowed: give a whole number'),
    (HEAD + "repeats = 0\n" + BODY, "repeats = 0 is out of range: it must be at least 1"),
    (HEAD + "seed = 1.5\n" + BODY, "seed = 1.5 is not allowed: give a whole number"),
    (HEAD + "min_window_s = -1\n" + BODY, "min_window_s = -1 is out of range: it must be at least 0.0"),
    (
        HEAD + 'clocks = "readonly"\n' + BODY,
        'clocks = "readonly" is not allowed: give apply or read-only; did you mean "read-only"?',
    ),
    (HEAD + '[[model]]\nname = "m"\n' + TASK, "model[0].id is missing"),
    (HEAD + MODEL + MODEL + TASK, 'model "m" is listed twice: list it once'),
    (HEAD + BODY + "limit = 9\n" + TASK, 'task "boolq" is listed twice: give each its own `label`'),
    (
        HEAD + BODY + TASK,
        'task[0] "boolq" and task[1] "boolq" differ at most in their label and share a load (16 in flight), so '
        "their trials would have the same ids: remove one of the two, or give it another setting, or other loads",
    ),
    (
        HEAD + BODY + "limit = 9\n" + TASK + 'label = "again"\n' + TASK + 'label = "more"\nlimit = 9\n'
        '[axes]\nconcurrency = [8, 4]\n',
        'task[0] "boolq" and task[2] "more" differ at most in their label and share a load (8 in flight)',
    ),
    (
        HEAD + MODEL + '[[task]]\nname = "synthetic"\nnum_requests = 1\n',
        'task[0]: task "synthetic" also needs num_prompt_tokens, num_output_tokens',
    ),
    (HEAD + BODY + "num_requests = 4\n", 'task[0]: num_requests belong to task "synthetic" only, not to "boolq"'),
    (HEAD + BODY + "[axes]\nrequest_rate = 0\n", "axes.request_rate[0] = 0 is out of range: give a number of requests a second"),
    (HEAD + BODY + '[axes]\nrequest_rate = ["fast"]\n', 'axes.request_rate[0] = "fast" is not allowed here: give a number'),
    (HEAD + BODY + '[axes]\nrequest_rate = ["0%"]\n', 'axes.request_rate[0] = "0%" is not allowed here: give a number of'),
    (HEAD + BODY + "[axes]\nrequest_rate = [1, 1]\n", "contains 1.0 twice: list each value once"),
    (
        HEAD + BODY + '[axes]\nrequest_rate = ["80%"]\n',
        'task "boolq" has a request_rate in per cent of its capacity, which is the highest rate that keeps an SLO',
    ),
    (HEAD + BODY + "[axes]\nrequest_rate = 1\nburstiness = 0\n", "axes.burstiness[0] = 0 is not allowed here: give a number"),
    (HEAD + BODY + "[axes]\nburstiness = 0.5\n", "burstiness belongs to a request_rate, and this sweep has none"),
    (HEAD + "ramp_s = 5\n" + BODY, "ramp_s belongs to loads with a request_rate, and this sweep has none"),
    (
        HEAD + "min_window_s = 1700\n" + BODY + "[axes]\nrequest_rate = 1\n",
        "ramp_s and min_window_s together last 2125 s, longer than limits.trial_s = 1800",
    ),
    (HEAD + "min_window_s = 0\n" + BODY + "[axes]\nrequest_rate = 1\n", "min_window_s = 0 gives requests that arrive"),
    (
        HEAD + BODY + '[[override]]\ntask = "boolq"\nconcurrency = 4\nrequest_rate = 2\n',
        "override[0] gives both concurrency and request_rate: give one of them",
    ),
    (
        HEAD + MODEL + SYNTHETIC + 'num_output_tokens = 8\nphases = "output_lengths"\n[axes]\nrequest_rate = 2\n',
        'task "synthetic-8x8" has phases and a request_rate: phases needs a closed loop',
    ),
    (HEAD + BODY + "[slo]\nttft = 200\n", 'slo.ttft = 200 is not allowed: give a time above 0 with its unit'),
    (HEAD + BODY + '[slo]\nttft = "200"\n', 'slo.ttft = "200" is not allowed: give a time above 0 with its unit'),
    (HEAD + BODY + '[slo]\ntttf = "200 ms"\n', '"tttf" is not a key in slo: the keys are ttft, tpot, e2el, share'),
    (HEAD + BODY + '[slo]\nttft = "1 s"\nshare = 0.99\n', "slo.share = 0.99 is not allowed: give a percentage"),
    (HEAD + BODY + "[slo]\n", "slo: give at least one of ttft, tpot and e2el"),
    (HEAD + BODY + "[axes]\nsm_clocks = [1000]\n", '"sm_clocks" is not a key in axes: the keys are concurrency, request_rate,'),
    (
        HEAD + BODY + '[axes]\nsm_clock = ["defualt"]\n',
        'axes.sm_clock[0] = "defualt" is not allowed here: give "default", a percentage such as "80%", or a number of '
        'MHz, or { spaced = 8 }; did you mean "default"?',
    ),
    (
        HEAD + BODY + '[axes]\nsm_clock = ["spaced 8"]\n',
        'axes.sm_clock[0] = "spaced 8" is not allowed here: give "default", a percentage such as "80%", or a number of '
        "MHz, or { spaced = 8 }",
    ),
    (HEAD + BODY + '[axes]\nsm_clock = ["spaced 9/8"]\n', 'axes.sm_clock[0] = "spaced 9/8" is not allowed here: give'),
    (HEAD + BODY + '[axes]\nsm_clock = ["spaced 0/8"]\n', 'axes.sm_clock[0] = "spaced 0/8" is not allowed here: give'),
    (HEAD + BODY + '[axes]\nsm_clock = ["120%"]\n', 'axes.sm_clock[0] = "120%" is out of range: a percentage must be above 0%'),
    (HEAD + BODY + "[axes]\nsm_clock = [-5]\n", "axes.sm_clock[0] = -5 is out of range: a number of MHz must be greater than 0"),
    (HEAD + BODY + "[axes]\nsm_clock = { spaced = 1 }\n", "spaced = 1 is not a whole number from 2 to 64"),
    (HEAD + BODY + "[axes]\npower_limit = [{ spaced = 3 }]\n", "axes.power_limit[0] = {'spaced': 3} is not allowed"),
    (HEAD + BODY + "[axes]\nconcurrency = []\n", "axes.concurrency is empty: give at least one value"),
    (HEAD + BODY + "[axes]\nconcurrency = [4, 4]\n", "axes.concurrency = [4, 4] contains 4 twice: list each value once"),
    (HEAD + BODY + "[sampling]\ntop_p = 0\n", "sampling.top_p = 0 is out of range: it must be greater than 0.0"),
    (HEAD + BODY + "[limits]\ntrial = 3\n", '"trial" is not a key in limits: the keys are request_s, trial_s, load_s'),
    (HEAD + BODY + '[[override]]\ntask = "bolq"\n', 'override[0].task = "bolq" is not in this sweep: its tasks are boolq; did you'),
    (HEAD + "fixed_output_length = true\n" + BODY, "fixed_output_length = true needs max_output_tokens"),
    (HEAD + BODY + "[[override]]\nconcurrency = []\n", "override[0].concurrency is empty: give at least one value"),
    (
        HEAD + BODY + 'phases = "static"\n',
        'task[0].phases = "static" is not allowed: give static_batches or output_lengths; did you mean "static_batches"?',
    ),
    (
        HEAD + BODY + 'phases = "static_batches"\n',
        'task[0].phases = "static_batches" needs outputs of one length: use task synthetic, or fixed_output_length = true',
    ),
    (
        HEAD + "max_output_tokens = 8\n" + BODY + 'phases = "output_lengths"\n',
        'task[0].phases = "output_lengths" needs outputs of one length',
    ),
    (
        HEAD + MODEL + SYNTHETIC + 'num_output_tokens = 3\nphases = "output_lengths"\n',
        'task[0].phases = "output_lengths" needs at least 4 output tokens, but a request generates 3',
    ),
    (
        HEAD + MODEL + SYNTHETIC + 'num_output_tokens = 1\nphases = "static_batches"\n',
        'task[0].phases = "static_batches" needs at least 2 output tokens, but a request generates 1',
    ),
    (HEAD + BODY + 'measure_surprise = "yes"\n', 'task[0].measure_surprise = "yes" is not allowed: give true or false'),
    (
        HEAD + MODEL + SYNTHETIC + "num_output_tokens = 8\nmeasure_surprise = true\n",
        'task[0]: task "synthetic" has random prompts, whose likelihood says nothing: leave measure_surprise out',
    ),
    (HEAD + BODY + "repeat_each_s = 1\n", "task[0].repeat_each_s = 1 is out of range: it must be at least 2.0"),
    (
        HEAD + BODY + "repeat_each_s = 2\n",
        "task[0].repeat_each_s = 2 measures a prompt that is alone on the GPU: its concurrency must be 1, not 16",
    ),
    (
        HEAD + BODY + "repeat_each_s = 2\n[axes]\nconcurrency = 1\n[[override]]\nconcurrency = [1, 4]\n",
        "its concurrency must be 1, not 4",
    ),
    (
        HEAD + '[[model]]\nid = "m"\nengine = { enable_prefix_caching = true }\n' + TASK
        + "repeat_each_s = 2\n[axes]\nconcurrency = 1\n",
        'repeats prompts, which the prefix cache of model "m" would answer: leave enable_prefix_caching out',
    ),
    (
        HEAD + '[[model]]\nid = "m"\nengine = { tensor_parallel_size = 4 }\n' + TASK,
        "tensor_parallel_size = 4 asks for several GPUs, but an engine runs on one: leave tensor_parallel_size out",
    ),
    (
        HEAD + '[[model]]\nid = "m"\nengine = { enable_prefix_caching = true }\n' + SYNTHETIC
        + 'num_output_tokens = 8\nphases = "output_lengths"\n',
        'phases = "output_lengths" repeats prompts, which the prefix cache of model "m" would answer',
    ),
    (
        HEAD + MODEL + SYNTHETIC + 'num_output_tokens = 8\nphases = "static_batches"\nrepeat_each_s = 2\n',
        "task[0]: phases and repeat_each_s need different windows: give each one a task of its own",
    ),
    (
        HEAD + MODEL + MODEL + 'label = "again"\n' + TASK,
        'model "m" and model "again" differ at most in their label and share a load (16 in flight), so their trials '
        "would have the same ids: remove one of the two, or give it other engine arguments, or other loads",
    ),
    (HEAD + MODEL + 'label = ""\n' + TASK, 'model[0].label = "" is not allowed'),
    (
        HEAD + MODEL + '[model.grid]\ndtype = ["half", "half"]\n' + TASK,
        "dtype contains half twice: list each value once",
    ),
    (HEAD + MODEL + "[model.grid]\ndtype = []\n" + TASK, "model[0].grid.dtype is empty: give at least one value"),
    (
        HEAD + MODEL + 'engine = { dtype = "half" }\n[model.grid]\ndtype = ["half", "float32"]\n' + TASK,
        "model[0]: dtype stands in engine and in grid: leave it out of engine",
    ),
    (
        HEAD + MODEL + "[model.grid]\ntensor_parallel_size = [1, 2]\n" + TASK,
        "tensor_parallel_size = 2 asks for several GPUs, but an engine runs on one",
    ),
    (
        HEAD + MODEL + '[model.grid]\ndtype = ["half"]\n' + TASK + '[[override]]\nmodel = "m, dtype=hafl"\n',
        'override[0].model = "m, dtype=hafl" is not in this sweep: its models are m, dtype=half; did you mean "m, dtype=half"?',
    ),
    (
        HEAD + MODEL + SYNTHETIC.replace("= 8\n", '= "4 per slots"\n').replace('tokens = "4 per slots"', "tokens = 8") + "num_output_tokens = 8\n",
        'task[0].num_requests = "4 per slots" is not allowed: give a whole number, or "4 per slot" for 4 times the '
        'concurrency; did you mean "4 per slot"?',
    ),
    (
        HEAD + MODEL + '[[task]]\nname = "synthetic"\nnum_prompt_tokens = 8\nnum_output_tokens = 8\nnum_requests = 2.5\n',
        "task[0].num_requests = 2.5 is not allowed: give a whole number, or",
    ),
    (
        HEAD + MODEL + '[[task]]\nname = "synthetic"\nnum_prompt_tokens = 8\nnum_output_tokens = 8\nnum_requests = "0 per slot"\n',
        'task[0].num_requests = "0 per slot" is out of range: it must be at least 1',
    ),
    (
        HEAD + MODEL + '[[task]]\nname = "synthetic"\nnum_prompt_tokens = 8\nnum_output_tokens = 8\nnum_requests = 32\n'
        '[[task]]\nname = "synthetic"\nlabel = "b"\nnum_prompt_tokens = 8\nnum_output_tokens = 8\n'
        'num_requests = "4 per slot"\n[axes]\nconcurrency = [4, 8]\n',
        'and task[1] "b" differ at most in their label and share a load (8 in flight)',
    ),
    (HEAD + "max_window_s = 0\n" + BODY, "max_window_s = 0 is out of range: it must be greater than 0.0"),
    (HEAD + "max_window_s = 5\n" + BODY, "max_window_s = 5 is shorter than min_window_s = 10: raise one or lower"),
    (
        HEAD + "max_window_s = 60\n" + BODY + "repeat_each_s = 2\n[axes]\nconcurrency = 1\n",
        "max_window_s = 60 would leave prompts out that task[0].repeat_each_s = 2 asks to measure",
    ),
    (
        HEAD + "max_window_s = 60\nmax_output_tokens = 8\nfixed_output_length = true\n" + BODY
        + 'phases = "output_lengths"\n',
        'max_window_s = 60 would give other prompts to each of the trials that task[0].phases = "output_lengths" compares',
    ),
    (HEAD + "repeats = \n" + BODY, "is not TOML: "),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), MALFORMED)
def test_message_names_field_value_and_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    with pytest.raises(SweepFileError) as caught:
        load_sweep(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "validation error" not in str(caught.value)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(HEAD + "repeat = 3\nseed = -1\n" + BODY)
    with pytest.raises(SweepFileError) as caught:
        load_sweep(path)
    assert len(caught.value.problems) == 2


def test_a_missing_file_names_the_one_that_is_nearest_or_the_first_few(tmp_path: Path) -> None:
    (tmp_path / "demo.toml").write_text(HEAD + BODY)
    with pytest.raises(SweepFileError, match=r'there is no such file; did you mean ".*demo\.toml"\?$'):
        load_sweep(tmp_path / "dem.toml")
    for number in range(11):
        (tmp_path / f"{number:02}.toml").write_text(HEAD + BODY)
    with pytest.raises(SweepFileError, match=r"there is no such file; there are .*00\.toml, .*09\.toml and 2 more$"):
        load_sweep(tmp_path / "something-else")
    with pytest.raises(SweepFileError, match=r"is a folder, not a sweep file; there are .*00\.toml"):
        load_sweep(tmp_path)


def test_a_file_in_another_encoding_is_explained_and_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(HEAD + BODY, encoding="utf-16")
    with pytest.raises(SweepFileError, match=r"is not text in UTF-8 \(byte 0\): save it in that encoding"):
        load_sweep(path)
    path.write_text(HEAD + BODY, encoding="utf-8-sig")
    assert load_sweep(path).name == "x"


def test_phases_take_a_harness_task_whose_outputs_have_one_length(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        HEAD + "max_output_tokens = 8\nfixed_output_length = true\n" + MODEL + TASK + 'phases = "output_lengths"\n'
    )
    assert load_sweep(path).task[0].phases == "output_lengths"


def test_a_prompt_may_be_repeated_where_its_task_alone_runs_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    more = '[[task]]\nname = "arc_easy"\n[axes]\nconcurrency = [8]\n[[override]]\ntask = "boolq"\nconcurrency = 1\n'
    path.write_text(HEAD + BODY + "repeat_each_s = 2\n" + more)
    sweep = load_sweep(path)
    assert [sweep.axes_of(sweep.model[0], task).concurrency for task in sweep.task] == [(1,), (8,)]


def test_tasks_that_differ_in_their_label_alone_may_run_at_concurrencies_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    more = '[[override]]\ntask = "many"\nconcurrency = [32, 64]\n'
    path.write_text(HEAD + BODY + TASK + 'label = "many"\n' + more)
    blocks = expand_trials(load_sweep(path))
    assert len({block.block_id for block in blocks}) == len(blocks) == 3
