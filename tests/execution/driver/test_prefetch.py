"""Downloading later models while the present one is measured."""

import os

import pytest

from runner.execution.driver import prefetch
from runner.execution.driver.prefetch import Prefetch, list_ahead
from runner.execution.preflight.model_files import find_cached
from runner.spec.sweep import ModelSpec, parse_sweep
from runner.spec.trial import Block, expand_trials
from tests.execution.fake_hub import COMMIT, FakeHub


def test_a_download_ahead_is_told_and_its_failure_too(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    niceness: list[int] = []
    monkeypatch.setattr(os, "nice", niceness.append)
    level, kind, message = prefetch._download_at_low_priority("org/model", COMMIT)
    assert (level, kind) == ("info", "model_downloaded")
    assert message.startswith("org/model downloaded in ")
    assert find_cached("org/model", COMMIT)
    level, kind, message = prefetch._download_at_low_priority("org/gated", None)
    assert (level, kind) == ("warning", "download_failed")
    assert "accept its licence" in message
    assert niceness == [19, 19]


class FakeRay:
    """Tasks that finish when a test says so."""

    def __init__(self) -> None:
        self.finished: set[tuple[object, ...]] = set()
        self.ended: list[object] = []

    def wait(self, tasks: list[tuple[object, ...]], timeout: float) -> tuple[list[object], list[object]]:
        assert timeout == 0
        return [task for task in tasks if task in self.finished], []

    def get(self, task: tuple[object, ...]) -> tuple[str, str, str]:
        return "info", "model_downloaded", str(task)

    def cancel(self, task: object, *, force: bool) -> None:
        assert force
        self.ended.append(task)


def test_one_download_at_a_time_on_each_node_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ray, started = FakeRay(), []
    monkeypatch.setattr(prefetch, "ray", fake_ray)
    monkeypatch.setattr(prefetch, "_start", lambda *task: (started.append(task), task)[1])
    models = [ModelSpec(id="org/a"), ModelSpec(id="org/b", revision="v1")]
    downloads = Prefetch(models, {"org/a": COMMIT}, ["n1", "n2"])
    assert list(downloads.poll()) == list(downloads.poll()) == []
    assert started == [("n1", "org/a", COMMIT), ("n2", "org/a", COMMIT)]
    fake_ray.finished.add(started[1])
    assert [message for _, _, message in downloads.poll()] == [str(started[1])]
    assert started[2:] == [("n2", "org/b", "v1")]
    downloads.stop()
    assert set(fake_ray.ended) == {started[0], started[2]}


def make_blocks() -> list[Block]:
    models = [{"id": name} for name in ("org/a", "shapes/llama-3.2-1b", "org/b", "org/c")]
    task = {"name": "synthetic", "num_prompt_tokens": 8, "num_output_tokens": 4, "num_requests": 2}
    return expand_trials(parse_sweep({"name": "s", "model": models, "task": [task], "axes": {"concurrency": [1, 2]}}))


def ahead(blocks: list[Block], trial_ids: set[str], engine: str = "vllm") -> list[str]:
    return [model.id for model in list_ahead(blocks, trial_ids, engine)]


def test_variants_of_a_model_share_its_files() -> None:
    models = [{"id": "org/a", "grid": {"dtype": ["half", "float32"]}}, {"id": "org/b"}]
    document = {"name": "s", "model": models, "task": [{"name": "tiny_qa"}]}
    blocks = expand_trials(parse_sweep(document))
    assert ahead(blocks, {trial.trial_id for block in blocks for trial in block.trials}) == ["org/b"]


def test_what_is_wanted_at_once_or_never_is_not_downloaded_ahead() -> None:
    blocks = make_blocks()
    every = {trial.trial_id for block in blocks for trial in block.trials}
    assert ahead(blocks, every) == ["org/b", "org/c"]
    later = {trial.trial_id for block in blocks if block.model.id in ("org/b", "org/c") for trial in block.trials}
    assert ahead(blocks, later) == ["org/c"]
    assert ahead(blocks, every, engine="simulated") == []
