"""The files of a model: which are downloaded, and whether the cache holds a complete model."""

import pytest

from runner.execution.preflight.model_files import choose_files, download, find_cached
from tests.execution.fake_hub import COMMIT, FILES, FakeHub

NEEDED = {
    "config.json",
    "tokenizer.json",
    "model-1.safetensors",
    "model-2.safetensors",
    "model.safetensors.index.json",
}


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
