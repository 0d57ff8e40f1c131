"""Access to models of the hub: their commits, and what is said about those that cannot be downloaded."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.execution.preflight.model_access import ModelAccess, ModelAccessError, check_access, locate, require_access
from runner.execution.preflight.model_files import download, is_on_hub
from runner.inference.engine import EngineError
from runner.spec.model import ModelSpec
from tests.execution.fake_hub import COMMIT, FakeHub


@pytest.fixture
def go_offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def check(model_id: str, revision: str | None = None) -> ModelAccess:
    (access,) = check_access([ModelSpec(id=model_id, revision=revision)])
    return access


# what the hub says ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [None, "v1", COMMIT])
def test_a_model_that_may_be_had_is_pinned_to_its_commit(hub: FakeHub, revision: str | None) -> None:
    access = check("org/model", revision)
    assert (access.commit, access.problem) == (COMMIT, None)
    assert require_access([access]) == {"org/model": COMMIT}
    assert [method for method, path in hub.asked if "resolve" in path] == ["HEAD"]  # nothing is downloaded


@pytest.mark.parametrize(
    ("model_id", "revision", "problem", "words"),
    [
        ("org/gated", None, "denied", r"accept its licence at https://huggingface.co/org/gated, then set HF_TOKEN"),
        ("org/disabled", None, "denied", r"disabled .* choose another"),
        ("org/bad-token", None, "denied", r"refuses the token here .*set HF_TOKEN again"),
        ("org/modle", None, "wrong", r"no model 'org/modle', .*did you mean org/model\b"),
        (
            "zzz/qqq",
            None,
            "wrong",
            r"no model 'zzz/qqq', neither as a folder here nor on Hugging Face.*may not see it\)$",
        ),
        ("org/model", "v9", "wrong", r"no revision 'v9': see https://huggingface.co/org/model/commits/main"),
        ("org/no-config", None, "wrong", r"no config.json"),
        ("some/folder/that/is/not/there", None, "wrong", r"neither a folder here nor a Hugging Face id"),
        ("org/busy", None, "unreachable", r"does not answer .*503"),
    ],
)
def test_a_model_that_cannot_be_had_is_explained(
    hub: FakeHub, model_id: str, revision: str | None, problem: str, words: str
) -> None:
    access = check(model_id, revision)
    assert (access.commit, access.problem) == (None, problem)
    assert re.search(words, access.message), access.message
    assert "\n" not in access.message
    with pytest.raises(ValueError if problem == "wrong" else ModelAccessError, match=re.escape(access.message)):
        require_access([access])


def test_variants_of_a_model_are_asked_for_once_and_refused_once(hub: FakeHub) -> None:
    half = {"dtype": "half"}
    models = [ModelSpec(id="org/model"), ModelSpec(id="org/model", label="half", engine=half)]
    assert require_access(check_access(models)) == {"org/model": COMMIT, "half": COMMIT}
    assert len([method for method, path in hub.asked if "resolve" in path]) == 1
    gated = [ModelSpec(id="org/gated"), ModelSpec(id="org/gated", label="half", engine=half)]
    with pytest.raises(ModelAccessError) as refused:
        require_access(check_access(gated))
    assert len(str(refused.value).splitlines()) == 1


def test_the_token_comes_from_the_usual_place_and_is_never_shown(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    access = check("org/gated")
    assert hub.tokens == {"Bearer hf_secret"}
    assert "the token here may not read it" in access.message
    assert "hf_secret" not in access.message


def test_all_problems_are_told_at_once(hub: FakeHub) -> None:
    found = check_access([ModelSpec(id=name) for name in ("org/gated", "org/model", "zzz/qqq")])
    with pytest.raises(ValueError, match=r"(?s)'org/gated' is gated.*\n.*no model 'zzz/qqq'"):
        require_access(found)


@pytest.mark.parametrize("model_id", ["shapes/llama-3.2-1b", "models/joulesweep-small", "."])
def test_shapes_and_folders_need_no_hub(hub: FakeHub, model_id: str) -> None:
    assert check_access([ModelSpec(id=model_id)]) == []
    assert locate(model_id, None) == model_id
    assert not is_on_hub(model_id)
    assert not hub.asked


# without a network ---------------------------------------------------------------------------------------------------


def test_offline_a_model_that_is_here_is_no_problem(hub: FakeHub, go_offline: Callable[[], None]) -> None:
    folder = download("org/model", COMMIT)
    go_offline()
    for revision in (None, COMMIT):
        assert check("org/model", revision).commit == COMMIT
        assert locate("org/model", revision) == str(folder)


def test_offline_a_model_that_is_not_here_cannot_be_told(hub: FakeHub, go_offline: Callable[[], None]) -> None:
    go_offline()
    access = check("org/model")
    assert access.problem == "unreachable"
    assert "in this machine's cache" in access.message
    assert "HF_HUB_OFFLINE" in access.message
    with pytest.raises(EngineError, match=r"org/model cannot be downloaded: .*does not answer"):
        locate("org/model", None)


def test_a_silent_hub_is_asked_once(hub: FakeHub) -> None:
    found = check_access([ModelSpec(id=name) for name in ("org/busy", "org/model", "shapes/llama-3.2-1b")])
    assert [access.problem for access in found] == ["unreachable", "unreachable"]
    assert "'org/model'" in found[1].message
    assert [path for _, path in hub.asked if "resolve" in path] == ["/org/busy/resolve/main/config.json"]


def test_a_gated_model_that_is_here_already_needs_no_token(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "models--org--gated" / "snapshots" / ("b" * 40)
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    assert check("org/gated").commit == "b" * 40
