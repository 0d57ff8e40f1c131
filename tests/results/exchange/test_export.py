import json
from pathlib import Path

import pytest

from runner.results.exchange.export import LIST, ExportError, export_run
from tests.results.exchange.runs import write_run


@pytest.mark.parametrize("name", ["vllm-bench", "mlenergy", "inferencex"])
def test_a_run_becomes_a_folder_of_files_that_are_listed(tmp_path: Path, name: str) -> None:
    export = export_run(write_run(tmp_path / "run"), name)
    assert export.folder == tmp_path / "run" / "exports" / name
    assert export.num_trials == 4
    there = {str(path.relative_to(export.folder)) for path in export.folder.rglob("*") if path.is_file()}
    assert there == {*export.files, LIST}
    listed = json.loads((export.folder / LIST).read_text())
    assert (listed["format"], listed["run"], listed["simulated"]) == (name, "small", False)
    assert tuple(listed["notes"]) == export.notes
    for path in export.files:
        if path.endswith(".json"):
            json.loads((export.folder / path).read_text())


def test_engine_arguments_are_yaml(tmp_path: Path) -> None:
    import yaml

    export = export_run(write_run(tmp_path / "run"), "mlenergy", tmp_path / "out")
    (path,) = (path for path in export.files if path.endswith(".yaml"))
    assert yaml.safe_load((tmp_path / "out" / path).read_text()) == {
        "tensor-parallel-size": 1, "dtype": "bfloat16", "max-model-len": 2048,
    }  # fmt: skip


def test_an_export_replaces_an_export_and_nothing_else(tmp_path: Path) -> None:
    store = write_run(tmp_path / "run")
    first = export_run(store, "inferencex", tmp_path / "out")
    (tmp_path / "out" / "own.txt").write_text("mine")
    second = export_run(store, "vllm-bench", tmp_path / "out")
    there = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert there == {*second.files, LIST, "own.txt"}
    assert not set(first.files) & there


def test_a_list_that_names_files_elsewhere_removes_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("x")
    (tmp_path / "out" / LIST).write_text(json.dumps({"files": ["../precious"]}))
    export_run(write_run(tmp_path / "run"), "inferencex", tmp_path / "out")
    assert (tmp_path / "precious").exists()


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    store = write_run(tmp_path / "run")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(ExportError, match="out holds other files and no export: give a new folder as --out"):
        export_run(store, "vllm-bench", tmp_path / "out")
    with pytest.raises(ExportError, match=r"thesis\.tex is a file: give a new folder as --out"):
        export_run(store, "vllm-bench", tmp_path / "out" / "thesis.tex")


def test_an_unknown_format_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"--format = 'mlenergi' is not allowed: give vllm-bench or .*\"mlenergy\""):
        export_run(write_run(tmp_path / "run"), "mlenergi")
    assert not (tmp_path / "run" / "exports").exists()


def test_a_run_that_a_format_cannot_hold_is_refused_with_the_reasons(tmp_path: Path) -> None:
    from tests.results.exchange.runs import sweep

    axes = {"concurrency": [2], "sm_clock": ["default"]}
    store = write_run(tmp_path / "run", document=sweep(axes=axes), verdicts=["trace_gap"])
    with pytest.raises(
        ExportError, match=r"has no trial that mlenergy can hold: 1 trial is left out: ML\.ENERGY needs"
    ):
        export_run(store, "mlenergy")
    assert export_run(store, "inferencex").num_trials == 1


def test_an_open_loop_is_held_by_vllms_format_alone(tmp_path: Path) -> None:
    from tests.results.exchange.runs import sweep

    rates = {"concurrency": None, "request_rate_per_s_requested": 4.0, "burstiness": 1.0}
    axes = {"concurrency": [2], "sm_clock": ["default"]}
    store = write_run(tmp_path / "run", document=sweep(axes=axes), **rates)
    assert export_run(store, "vllm-bench").num_trials == 1
    for name in ("mlenergy", "inferencex"):
        with pytest.raises(ExportError, match=r"1 trial is left out: [^:]* needs [^;]*$"):
            export_run(store, name)
