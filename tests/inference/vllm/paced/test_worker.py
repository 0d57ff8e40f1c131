import time
from itertools import count
from statistics import median

import pytest

from runner.inference.vllm import shapes
from runner.inference.vllm.engine import VllmEngine
from runner.inference.vllm.paced.pace import Pace
from runner.physics.gpu_model import load_gpu_model
from runner.physics.gpu_state import GpuSettings, GpuState
from runner.physics.shape import StepWork, get_shape
from runner.spec.operating_point import OperatingPoint
from runner.spec.throttle import ThrottleReason
from tests.engines import ON_PACED_ENGINE
from tests.inference import requests
from tests.inference.requests import GREEDY, load
from tests.inference.tiny_model import prompt, save_config
from tests.witness import Witness

pytestmark = ON_PACED_ENGINE

GPU, SHAPE = load_gpu_model("h200"), get_shape("qwen2.5-32b")
CONCURRENCY, NUM_ROUNDS, NUM_PROMPT_TOKENS, NUM_OUTPUT_TOKENS = 16, 3, 24, 40
HOST_S = 0.25
"""More than the host needs to hand in the first requests and to return the last: 5 to 30 ms in the fastest run."""
NUM_TRIES = 10


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return GpuState(tmp_path_factory.mktemp("gpu"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory, state):
    """A shape with random weights and no tokenizer, paced."""
    shapes_dir = tmp_path_factory.mktemp("shapes")
    save_config(shapes_dir / "tiny")
    pace = Pace(gpu_model="h200", modelled_shape="qwen2.5-32b", state_dir=state.directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SHAPES_DIR", shapes_dir)
        patch.setattr(shapes, "shape_names", lambda: ["tiny"])
        engine = VllmEngine("shapes/tiny", engine_args={"max_model_len": 256, "dtype": "float32"}, pace=pace)
    yield engine
    engine.close()


def generate(index):
    return requests.generate(index, NUM_PROMPT_TOKENS, NUM_OUTPUT_TOKENS)


def score(index):
    return requests.score(index, prompt(index, NUM_PROMPT_TOKENS), NUM_PROMPT_TOKENS - 4)


def run_at(engine, state, settings, asked):
    """Run with the GPU set. Repeats the run, some times at most, if this machine was too busy to keep pace."""
    state.change_settings(settings)
    time.sleep(GPU.settle_s + 0.01)
    for _ in range(NUM_TRIES):
        state.read_new_activity()
        run = engine.run(iter(asked), load(CONCURRENCY), GREEDY)
        if run.pace_lost_s == 0.0:
            break
    return run, state.read_new_activity()


def settings(**asked):
    return GpuSettings(time_ns=time.time_ns(), **asked)


def prefill_work(num_requests, *, scored=False):
    num_tokens = num_requests * NUM_PROMPT_TOKENS
    return StepWork(
        num_prefill_tokens=num_tokens,
        num_decode_tokens=0,
        num_attended_tokens=num_tokens * (NUM_PROMPT_TOKENS + 1) // 2,
        num_kv_tokens=0,
        num_logit_rows=num_tokens if scored else num_requests,
    )


def decode_work(num_requests, num_computed_tokens):
    return StepWork(
        num_prefill_tokens=0,
        num_decode_tokens=num_requests,
        num_attended_tokens=num_requests * (num_computed_tokens + 1),
        num_kv_tokens=num_requests * num_computed_tokens,
        num_logit_rows=num_requests,
    )


def predict(point):
    """The steps of one round of `generate`, as the GPU model has them."""
    decoding = range(NUM_PROMPT_TOKENS, NUM_PROMPT_TOKENS + NUM_OUTPUT_TOKENS - 1)
    works = [prefill_work(CONCURRENCY), *(decode_work(CONCURRENCY, computed) for computed in decoding)]
    return [GPU.step(SHAPE, work, point) for work in works]


@pytest.fixture(scope="module")
def runs(engine, state):
    """The same requests at three clocks, and at the first once more."""
    requests = [generate(i) for i in range(CONCURRENCY * NUM_ROUNDS)]
    clocks_mhz = (1980, 990, 495, 1980)
    with Witness() as machine:
        runs = [(mhz, *run_at(engine, state, settings(sm_clock_mhz=mhz), requests)) for mhz in clocks_mhz]
    lost_s = [run.pace_lost_s for _, run, _ in runs]
    if any(lost_s):
        machine.excuse(lost_s)
    return runs


def test_run_lasts_as_long_as_the_gpu_would_take(runs):
    hosts_s = []
    for mhz, run, _ in runs:
        expected_s = NUM_ROUNDS * sum(step.duration_s for step in predict(OperatingPoint(sm_clock_mhz=mhz)))
        hosts_s.append((run.end_ns - run.start_ns) / 1e9 - expected_s)
    # A run is never shorter. It is longer by the host's part before the first step and after the last.
    assert 0.0 <= min(hosts_s) < HOST_S


def test_time_per_output_token_is_the_gpus(runs):
    for mhz, run, _ in runs:
        decoding = predict(OperatingPoint(sm_clock_mhz=mhz))[1:]
        expected_s = sum(step.duration_s for step in decoding) / len(decoding)
        times = [(c.last_token_ns - c.first_token_ns) / 1e9 / (c.num_output_tokens - 1) for c in run.completions]
        # The next step catches up what one step is late, so a late step moves the tokens of one round alone.
        assert median(times) == pytest.approx(expected_s, rel=0.02)


def test_lower_clock_is_never_faster_and_the_same_clock_is_as_fast(runs):
    fast, middle, slow, _ = (sum(a.end_ns - a.start_ns for a in activity) for _, _, activity in runs)
    assert fast < middle < slow
    # The durations of two runs differ by some ms of the host's. Their steps are the GPU's and do not differ.
    assert [a.power_w for a in runs[3][2]] == [a.power_w for a in runs[0][2]]
    # The host may have slewed its time between the runs. Intervals agree to the ns even then.
    assert [a.end_ns - a.start_ns for a in runs[3][2]] == [a.end_ns - a.start_ns for a in runs[0][2]]


def test_activity_is_the_gpus_work_without_gaps(runs):
    for mhz, run, activity in runs:
        expected = predict(OperatingPoint(sm_clock_mhz=mhz)) * NUM_ROUNDS
        assert len(activity) == len(expected) == len(run.steps)
        assert [a.start_ns for a in activity[1:]] == [a.end_ns for a in activity[:-1]]
        energy_j = sum((a.end_ns - a.start_ns) / 1e9 * a.power_w for a in activity)
        assert energy_j == pytest.approx(sum(step.duration_s * step.power_w for step in expected), rel=1e-5)
        assert {a.sm_clock_mhz for a in activity} == {step.sm_clock_mhz for step in expected}
        assert activity[0].start_ns >= run.start_ns
        assert activity[-1].end_ns <= run.end_ns


def test_places_are_filled_together(runs):
    for _, run, _ in runs:
        assert {step.num_running for step in run.steps} == {CONCURRENCY}


def test_scoring_computes_every_prompt_tokens_logits(engine, state):
    run, activity = run_at(engine, state, settings(sm_clock_mhz=990), [score(i) for i in range(CONCURRENCY)])
    assert {completion.error for completion in run.completions} == {None}
    expected = GPU.step(SHAPE, prefill_work(CONCURRENCY, scored=True), OperatingPoint(sm_clock_mhz=990))
    assert sum(a.end_ns - a.start_ns for a in activity) / 1e9 == pytest.approx(expected.duration_s, rel=1e-6)


def test_power_limit_lowers_the_clock_and_says_so(engine, state):
    requests = [generate(i) for i in range(CONCURRENCY)]
    run, activity = run_at(engine, state, settings(power_limit_w=450.0), requests)
    expected = predict(OperatingPoint(power_limit_w=450.0))
    assert any(step.power_capped for step in expected)
    assert [ThrottleReason.POWER_CAP in a.throttle_reasons for a in activity] == [
        step.power_capped for step in expected
    ]
    assert max(a.power_w for a in activity) <= 450.0
    assert run.completions[0].text is None


def test_clock_changed_during_a_run_settles_within_it(engine, state):
    state.change_settings(settings(sm_clock_mhz=1980))
    time.sleep(GPU.settle_s + 0.01)
    state.read_new_activity()
    asked_ns = []

    def ask_once(*_):
        if not asked_ns:
            asked_ns.append(time.time_ns())
            state.change_settings(GpuSettings(time_ns=asked_ns[0], sm_clock_mhz=495))
            asked_ns.append(time.time_ns())

    def until_asked():
        """Requests until the GPU has been set, and two rounds more."""
        for i in count():
            yield generate(i)
            if asked_ns:
                break
        yield from (generate(i) for i in range(2 * CONCURRENCY))

    engine.run(until_asked(), load(CONCURRENCY), GREEDY, on_progress=ask_once)
    settled_ns = asked_ns[0] + round(GPU.settle_s * 1e9)
    activities = state.read_new_activity()
    for activity in activities:
        # A step that began before the setting was written may not have read it.
        if not settled_ns <= activity.start_ns < asked_ns[1]:
            assert (activity.sm_clock_mhz == 495) == (activity.start_ns >= settled_ns)
    assert {activity.sm_clock_mhz == 495 for activity in activities} == {True, False}
