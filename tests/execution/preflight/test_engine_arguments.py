"""Engine arguments of a sweep, checked against a vLLM."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.execution.preflight import engine_arguments
from runner.execution.preflight.engine_arguments import describe_unchecked, find_wrong_arguments, list_doubtful
from runner.execution.preflight.feasibility import require_known_names
from runner.inference.vllm.engine_arguments import ArgumentType, EngineArguments
from runner.spec.sweep import SweepFileError, SweepSpec, parse_sweep

INT = ArgumentType(names=frozenset({"int"}), values=())
DTYPE = ArgumentType(names=frozenset(), values=("auto", "float16"))
KNOWN = EngineArguments(version="0.99", types={"max_num_seqs": INT, "dtype": DTYPE, "other": None}, defaults={})


def make_sweep(*models: dict[str, Any]) -> SweepSpec:
    return parse_sweep({"name": "s", "model": list(models), "task": [{"name": "tiny_qa"}]})


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_arguments, "read_engine_arguments", lambda: KNOWN)


@pytest.mark.usefixtures("known")
def test_each_wrong_argument_is_named_with_its_place_in_the_file() -> None:
    right = {"id": "a", "engine": {"max_num_seqs": 8, "other": {"any": "value"}}}
    wrong = {
        "id": "b",
        "engine": {"max_num_sequences": 8},
        "grid": {"dtype": ["default", "float61"], "max_num_seqs": [1, 2.5, True], "dtyp": [1, 2]},
    }
    with pytest.raises(SweepFileError) as refused:
        require_known_names(make_sweep(right, wrong), Path("s.toml"))
    assert list(refused.value.problems) == [
        'model[1].engine.max_num_sequences is not an engine argument of vLLM 0.99; did you mean "max_num_seqs"?',
        'model[1].grid.dtype[1] = "float61" is not allowed by vLLM 0.99: give auto or float16; did you mean "float16"?',
        "model[1].grid.max_num_seqs[1] = 2.5 is not allowed by vLLM 0.99: give a whole number",
        "model[1].grid.max_num_seqs[2] = true is not allowed by vLLM 0.99: give a whole number",
        'model[1].grid.dtyp is not an engine argument of vLLM 0.99; did you mean "dtype"?',
    ]
    assert describe_unchecked(make_sweep(right, wrong)) is None


def test_a_quantization_that_only_a_plugin_could_add_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with_methods = replace(KNOWN, quantizations=("awq", "fp8_per_tensor"))
    monkeypatch.setattr(engine_arguments, "read_engine_arguments", lambda: with_methods)
    asked = make_sweep({"id": "m", "grid": {"quantization": ["default", "awq", "fp8_per_tenser"]}})
    assert list_doubtful(asked) == [
        'model[0].grid.quantization[2] = "fp8_per_tenser" is no method of vLLM 0.99 itself, so that only a plugin '
        'could add it; did you mean "fp8_per_tensor"?'
    ]
    monkeypatch.setattr(engine_arguments, "read_engine_arguments", lambda: KNOWN)
    assert list_doubtful(asked) == []


def test_without_vllm_nothing_is_refused_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_arguments, "read_engine_arguments", lambda: None)
    asked = make_sweep({"id": "m", "engine": {"max_num_sequences": 8}})
    assert list(find_wrong_arguments(asked)) == []
    assert "engine arguments are not checked" in (describe_unchecked(asked) or "")
    assert describe_unchecked(make_sweep({"id": "m"})) is None
