"""The engine arguments that an engine is opened with."""

import os

import pytest

from runner.inference.engine import EngineError
from runner.inference.vllm import opening
from runner.inference.vllm.opening import engine_environment, open_model
from runner.inference.vllm.paced.pace import Pace
from runner.physics.shape import SHAPES_DIR
from tests.interfaces.vllm_interfaces import ENGINE_ARGS, PACED_ENGINE_ARGS

EVERY_NAME = frozenset(ENGINE_ARGS + PACED_ENGINE_ARGS)
"""The engine arguments that every supported release has."""


@pytest.fixture
def open_with(monkeypatch):
    """Return a function from a model to the arguments that vLLM would get and the variables that would be set."""

    def open_(model="some/model", *, on_cpu=True, names=EVERY_NAME, engine_args=None, pace=None):
        given = {}
        before = set(os.environ)

        def record(arguments):
            given.update(arguments, environment=set(os.environ) - before)

        monkeypatch.setattr(opening, "is_on_cpu", lambda: on_cpu)
        monkeypatch.setattr(opening, "engine_argument_names", lambda: names)
        monkeypatch.setattr(opening, "open_front_end", record)
        open_model(model, revision="abc", engine_args=engine_args or {}, seed=7, pace=pace)
        return given

    return open_


def test_a_model_of_the_hub(open_with):
    given = open_with()
    assert (given["model"], given["revision"], given["tokenizer_revision"]) == ("some/model", "abc", "abc")
    assert (given["seed"], given["enable_prefix_caching"], given["disable_log_stats"]) == (7, False, False)
    assert "load_format" not in given
    assert "worker_cls" not in given


def test_a_shape_gets_random_weights_and_no_tokenizer(open_with):
    given = open_with("shapes/mistral-7b")
    assert given["model"] == str(SHAPES_DIR / "mistral-7b")
    assert (given["load_format"], given["skip_tokenizer_init"]) == ("dummy", True)


def test_the_users_arguments_come_last_and_unknown_ones_are_left_to_vllm(open_with):
    given = open_with(engine_args={"seed": 9, "enable_prefix_caching": True, "no_such_argument": 1})
    assert (given["seed"], given["enable_prefix_caching"], given["no_such_argument"]) == (9, True, 1)


def test_what_the_installed_version_lacks_is_left_out(open_with):
    assert "enable_logging_iteration_details" not in open_with(names=EVERY_NAME - {"enable_logging_iteration_details"})


@pytest.mark.parametrize("on_cpu", [True, False])
def test_the_cpu_has_no_graphs_and_variables_of_its_own(open_with, monkeypatch, on_cpu):
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    given = open_with(on_cpu=on_cpu)
    assert given["enforce_eager"] is on_cpu
    assert ("VLLM_CPU_KVCACHE_SPACE" in given["environment"]) is on_cpu


def test_a_paced_engine_has_its_own_worker_and_scheduler(open_with, tmp_path):
    pace = Pace(gpu_model="h200", modelled_shape="qwen2.5-32b", state_dir=tmp_path)
    given = open_with("shapes/mistral-7b", pace=pace)
    assert set(given) - {"environment"} == EVERY_NAME  # the contract test checks these names on every release
    assert given["worker_cls"].endswith("paced.worker.PacedWorker")
    assert given["async_scheduling"] is False
    with pytest.raises(EngineError, match="can pace vLLM on the CPU only"):
        open_with(pace=pace, on_cpu=False)


def test_an_unknown_shape_names_those_that_there_are(open_with):
    with pytest.raises(EngineError, match=r"there is no shapes/unknown; there are shapes/falcon-7b, "):
        open_with("shapes/unknown")


def test_a_paced_engine_has_one_thread(monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("VLLM_NO_USAGE_STATS", raising=False)
    with engine_environment(None):
        assert (os.environ["VLLM_NO_USAGE_STATS"], os.environ.get("OMP_NUM_THREADS")) == ("1", None)
    with engine_environment(Pace(gpu_model="h200", modelled_shape="qwen2.5-32b", state_dir=tmp_path)):
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "VLLM_NO_USAGE_STATS" not in os.environ
