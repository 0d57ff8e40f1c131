"""Models of the hub: what is said of those that cannot be had, which files come, and what the cache holds."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.execution.driver import prefetch
from runner.execution.driver.manifest import keep_commits
from runner.execution.driver.prefetch import Prefetch, list_ahead
from runner.execution.preflight.model_access import ModelAccess, ModelAccessError, check_access, locate, require_access
from runner.execution.preflight.model_files import choose_files, download, find_cached, is_on_hub
from runner.inference.engine import EngineError
from runner.spec.sweep import ModelSpec, parse_sweep
from runner.spec.trial import Block, expand_trials
from tests.execution.preflight.fake_hub import COMMIT, FILES, FakeHub, serve_hub

NEEDED = {
    "config.json",
    "tokenizer.json",
    "model-1.safetensors",
    "model-2.safetensors",
    "model.safetensors.index.json",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with serve_hub(monkeypatch, tmp_path / "cache") as hub:
        yield hub


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
        ("org/bad-token", None, "denied", r"refuses the token here .*set HF_TOKEN anew"),
        ("org/modle", None, "wrong", r"no model 'org/modle', .*did you mean org/model\b"),
        (
            "zzz/qqq",
            None,
            "wrong",
            r"no model 'zzz/qqq', neither as a folder here nor on Hugging Face.*may not see it\)$",
        ),
        ("org/model", "v9", "wrong", r"no revision 'v9': see https://huggingface.co/org/model/commits/main"),
        ("org/no-config", None, "wrong", r"no config.json"),
        ("some/folder/that/is/not/there", None, "wrong", r"no folder here, and no Hugging Face id"),
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


@pytest.mark.parametrize("missing", ["model-2.safetensors", "tokenizer.json", "config.json"])
def test_half_a_model_is_none(hub: FakeHub, missing: str) -> None:
    folder = download("org/model", COMMIT)
    (folder / missing).resolve().unlink()  # the link of the cache points nowhere now
    assert find_cached("org/model", COMMIT) is None


# downloads -----------------------------------------------------------------------------------------------------------


def test_the_weights_come_once_with_what_an_engine_needs(hub: FakeHub) -> None:
    folder = download("org/model", COMMIT)
    assert {path.name for path in folder.iterdir()} == NEEDED
    assert (folder / "model-2.safetensors").read_bytes() == FILES["model-2.safetensors"]
    assert find_cached("org/model", COMMIT) == folder


def test_without_safetensors_the_older_files_do() -> None:
    names = ["config.json", "pytorch_model.bin", "vocab.json", "merges.txt", "flax_model.msgpack", "onnx/model.bin"]
    assert set(choose_files(names)) == {"config.json", "pytorch_model.bin", "vocab.json", "merges.txt"}
    assert choose_files(["model.gguf", "config.json"]) == ["config.json"]


def test_a_download_ahead_is_told_and_its_failure_too(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    niceness: list[int] = []
    monkeypatch.setattr(os, "nice", niceness.append)
    level, kind, message = prefetch._download_quietly("org/model", COMMIT)
    assert (level, kind) == ("info", "model_downloaded")
    assert message.startswith("org/model is here")
    assert find_cached("org/model", COMMIT)
    level, kind, message = prefetch._download_quietly("org/gated", None)
    assert (level, kind) == ("warning", "download_failed")
    assert "accept its licence" in message
    assert niceness == [19, 19]


class FakeRay:
    """Tasks that end when they are told to."""

    def __init__(self) -> None:
        self.ended: set[tuple[object, ...]] = set()
        self.cancelled: list[object] = []

    def wait(self, tasks: list[tuple[object, ...]], timeout: float) -> tuple[list[object], list[object]]:
        assert timeout == 0
        return [task for task in tasks if task in self.ended], []

    def get(self, task: tuple[object, ...]) -> tuple[str, str, str]:
        return "info", "model_downloaded", str(task)

    def cancel(self, task: object, *, force: bool) -> None:
        assert force
        self.cancelled.append(task)


def test_one_download_at_a_time_on_each_node_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ray, started = FakeRay(), []
    monkeypatch.setattr(prefetch, "ray", fake_ray)
    monkeypatch.setattr(prefetch, "_start", lambda *task: (started.append(task), task)[1])
    models = [ModelSpec(id="org/a"), ModelSpec(id="org/b", revision="v1")]
    downloads = Prefetch(models, {"org/a": COMMIT}, ["n1", "n2"])
    assert list(downloads.poll()) == list(downloads.poll()) == []
    assert started == [("n1", "org/a", COMMIT), ("n2", "org/a", COMMIT)]
    fake_ray.ended.add(started[1])
    assert [message for _, _, message in downloads.poll()] == [str(started[1])]
    assert started[2:] == [("n2", "org/b", "v1")]
    downloads.stop()
    assert set(fake_ray.cancelled) == {started[0], started[2]}


def make_blocks() -> list[Block]:
    models = [{"id": name} for name in ("org/a", "shapes/llama-3.2-1b", "org/b", "org/c")]
    task = {"name": "synthetic", "num_prompt_tokens": 8, "num_output_tokens": 4, "num_requests": 2}
    return expand_trials(parse_sweep({"name": "s", "model": models, "task": [task], "axes": {"concurrency": [1, 2]}}))


def ahead(blocks: list[Block], trial_ids: set[str], engine: str = "vllm") -> list[str]:
    return [model.id for model in list_ahead(blocks, trial_ids, engine)]


def test_what_is_wanted_at_once_or_never_is_not_downloaded_ahead() -> None:
    blocks = make_blocks()
    every = {trial.trial_id for block in blocks for trial in block.trials}
    assert ahead(blocks, every) == ["org/b", "org/c"]
    later = {trial.trial_id for block in blocks if block.model.id in ("org/b", "org/c") for trial in block.trials}
    assert ahead(blocks, later) == ["org/c"]
    assert ahead(blocks, every, engine="simulated") == []


# a run that goes on --------------------------------------------------------------------------------------------------


def test_a_run_that_goes_on_keeps_the_commits_of_its_earlier_part() -> None:
    models = [{"id": "org/a"}, {"id": "org/b", "revision": "v1"}, {"id": "org/c"}]
    sweep = parse_sweep({"name": "s", "model": models, "task": [{"name": "boolq"}]})
    earlier = {
        "models": [
            {"id": "org/a", "revision": None, "commit": "old"},
            {"id": "org/b", "revision": "v0", "commit": "of another revision"},
            {"id": "org/c", "revision": None, "commit": None},
        ]
    }
    today = {"org/a": "new", "org/b": "b", "org/c": "c"}
    assert keep_commits(sweep, today, earlier) == {"org/a": "old", "org/b": "b", "org/c": "c"}
    assert keep_commits(sweep, today, None) == keep_commits(sweep, today, {}) == today
