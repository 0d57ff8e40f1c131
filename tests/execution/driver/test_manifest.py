"""The manifest, and the fingerprints that refuse to mix results."""

import json
from dataclasses import replace
from typing import Any

import pytest

from runner.execution.driver.manifest import RunOptions, build_manifest, close_manifest, keep_commits
from runner.execution.gpu_group import GpuDescription
from runner.execution.worker import fingerprint as fingerprint_module
from runner.execution.worker.fingerprint import describe_versions, fingerprint
from runner.hardware.gpu import GpuInfo
from runner.results.run_directory import RunDirectoryError
from runner.results.sensors import SensorFinding, SensorFindings
from runner.spec.sweep import parse_sweep
from tests.execution.trial_contexts import make_placement

INFO = GpuInfo(
    uuid="GPU-0",
    index=0,
    name="NVIDIA H200",
    driver_version="580.1",
    simulated=False,
    sm_clocks_mhz=(345, 990, 1980),
    mem_clocks_mhz=(2201, 3201),
    power_limit_min_w=200.0,
    power_limit_max_w=700.0,
    power_limit_default_w=700.0,
    memory_total_bytes=1,
    persistence_mode=True,
)
SENSORS = SensorFindings(
    gpu_uuid="GPU-0",
    driver_version="580.1",
    sensors={
        "samples": SensorFinding(supported=True, update_period_s=0.02, buffer_length=120, call_us=30.0),
        "instant": SensorFinding(supported=False, reason="not supported"),
        "average": SensorFinding(supported=True, update_period_s=0.1, averaging_window_s=1.0),
        "counter": SensorFinding(supported=True, update_period_s=0.1, averaging_window_s=0.1),
    },
    power_source="samples",
    energy_source="trace",
    choice="it is the fastest",
)
SWEEP = parse_sweep({"name": "s", "model": [{"id": "m"}], "task": [{"name": "boolq"}]})
VERSIONS = {"joulesweep": "0.1.0", "python": "3.11.1", "vllm": "0.31.0", "torch": "2.9", "ray": "2.50"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The versions that fingerprints are made of. A test may change them."""
    versions = dict(VERSIONS)
    monkeypatch.setattr(fingerprint_module, "describe_versions", lambda: dict(versions))
    return versions


def build(
    installed: dict[str, str], info: GpuInfo = INFO, *, earlier: Any = None, engine: str = "vllm", **options: Any
) -> dict[str, Any]:
    mark = fingerprint(info, engine)
    placement = make_placement(info.uuid, gpu_name=info.name, fingerprint=mark, simulated=False)
    return build_manifest(
        SWEEP,
        [GpuDescription(info=info, placement=placement, versions=dict(installed), sensors=SENSORS)],
        options=RunOptions(engine=engine, read_only=False, **options),
        num_trials=5,
        earlier=earlier,
    )


def test_the_manifest_says_what_was_asked_and_with_what_it_was_measured(installed: dict[str, str]) -> None:
    manifest = build(installed, command="sweep run s.toml")
    manifest = json.loads(json.dumps(manifest))
    assert manifest["sweep"] == SWEEP.model_dump(mode="json")
    assert (manifest["name"], manifest["num_trials"], manifest["simulated"]) == ("s", 5, False)
    assert manifest["versions"] == VERSIONS
    assert manifest["options"] == {"engine": "vllm", "read_only": False, "command": "sweep run s.toml"}
    assert manifest["fingerprints"] == {"NVIDIA H200": fingerprint(INFO, "vllm")}
    (gpu,) = manifest["gpus"]
    assert (gpu["uuid"], gpu["driver_version"], gpu["sm_clock_mhz_min"], gpu["sm_clock_mhz_max"]) == (
        "GPU-0",
        "580.1",
        345,
        1980,
    )
    assert gpu["num_sm_clocks"] == 3
    assert manifest["hosts"] == ["here"]


def test_each_model_stands_with_the_commit_that_it_is(installed: dict[str, str]) -> None:
    model = {"id": "m", "label": "m", "revision": None}
    assert build(installed)["models"] == [model | {"commit": None}]
    assert build(installed, commits={"m": "c0ffee"})["models"] == [model | {"commit": "c0ffee"}]


def test_nothing_of_the_environment_is_written_down(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_do_not_tell")
    assert "hf_do_not_tell" not in json.dumps(build(installed))


def test_the_sweeps_hash_follows_its_content(installed: dict[str, str]) -> None:
    first, again = build(installed), build(installed)
    assert first["sweep_hash"] == again["sweep_hash"]
    options = RunOptions(engine="vllm", read_only=False)
    other = build_manifest(SWEEP.model_copy(update={"seed": 1}), [], options=options, num_trials=5, earlier=None)
    assert other["sweep_hash"] != first["sweep_hash"]


def test_a_run_that_goes_on_keeps_what_the_earlier_one_said(installed: dict[str, str]) -> None:
    earlier = close_manifest(build(installed), "interrupted")
    manifest = close_manifest(build(installed, replace(INFO, uuid="GPU-1", index=1), earlier=earlier), "done")
    assert [gpu["uuid"] for gpu in manifest["gpus"]] == ["GPU-0", "GPU-1"]
    assert [run["outcome"] for run in manifest["runs"]] == ["interrupted", "done"]
    assert all(run["start"] <= run["end"] for run in manifest["runs"])


def test_what_workers_learn_of_their_sensors_is_there_at_the_end(installed: dict[str, str]) -> None:
    earlier = build(installed, replace(INFO, uuid="GPU-1", index=1))
    learnt = replace(SENSORS, choice="seen under a load")
    manifest = close_manifest(build(installed, earlier=earlier), "done", [learnt])
    choices = {gpu["uuid"]: gpu["sensors"]["choice"] for gpu in manifest["gpus"]}
    assert choices == {"GPU-0": "seen under a load", "GPU-1": "it is the fastest"}
    assert all(gpu["driver_version"] == "580.1" for gpu in manifest["gpus"])


def test_another_kind_of_gpu_may_join(installed: dict[str, str]) -> None:
    earlier = build(installed)
    manifest = build(installed, replace(INFO, uuid="GPU-9", name="NVIDIA A100"), earlier=earlier)
    assert set(manifest["fingerprints"]) == {"NVIDIA H200", "NVIDIA A100"}


@pytest.mark.parametrize(
    ("package", "version", "named"),
    [("vllm", "0.32.0", "vllm 0.31.0 -> 0.32.0"), ("lm-eval", "0.5", "lm-eval None -> 0.5")],
)
def test_another_version_is_refused_and_named(
    installed: dict[str, str], package: str, version: str, named: str
) -> None:
    earlier = build(installed)
    installed |= {package: version, "python": "3.12.0", "ray": "2.51"}
    with pytest.raises(RunDirectoryError, match=r"must not be mixed.*--fresh.*--out") as caught:
        build(installed, earlier=earlier)
    # Python and Ray have changed too, but are not why.
    assert f"({named})" in str(caught.value)


def test_another_driver_or_engine_is_refused_and_named(installed: dict[str, str]) -> None:
    earlier = build(installed)
    with pytest.raises(RunDirectoryError, match=r"\(driver of NVIDIA H200 580\.1 -> 590\.2\)"):
        build(installed, replace(INFO, driver_version="590.2"), earlier=earlier)
    with pytest.raises(RunDirectoryError, match=r"\(engine vllm -> simulated\)"):
        build(installed, engine="simulated", earlier=earlier)


def test_what_touches_neither_tokens_nor_joules_may_change(installed: dict[str, str]) -> None:
    earlier = build(installed)
    installed |= {"python": "3.12.0", "ray": "2.51", "polars": "3.0", "joulesweep": "0.2.0"}
    assert build(installed, earlier=earlier)["versions"]["python"] == "3.12.0"


def test_versions_are_those_that_are_installed() -> None:
    versions = describe_versions()
    assert {"joulesweep", "python", "polars", "ray"} <= set(versions)
    assert all(versions.values())
    assert fingerprint(INFO, "vllm") == fingerprint(INFO, "vllm")
    assert len(fingerprint(INFO, "vllm")) == 12


def test_a_resumed_run_keeps_the_commits_of_the_earlier_run() -> None:
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
