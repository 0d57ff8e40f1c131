"""The command line: its frozen shape, its exit codes, and what it must not import. Nothing here starts Ray."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main
from click.testing import Result
from typer.testing import CliRunner

from runner.cli import app
from runner.execution.preflight.model_access import ModelAccess
from runner.hardware.simulated.module import SimulatedNvml
from runner.results.run_directory import RunStore

ROOT = Path(__file__).parents[2]
SWEEP_FILES = sorted((ROOT / "sweeps").glob("*.toml"))
SWEEP = """
name = "small"
[[model]]
id = "shapes/llama-3.2-1b"
[[task]]
name = "synthetic"
num_prompt_tokens = 64
num_output_tokens = 16
num_requests = 8
[axes]
concurrency = 2
sm_clock = ["default", "60%"]
"""

Sweep = Callable[..., Result]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweep]:
    """Run `sweep ARGUMENTS...` in a folder of its own where no GPU may be used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("SWEEP_SIMULATED_STATE", str(tmp_path / "gpus"))
    monkeypatch.setenv("SWEEP_LEASE_DIR", str(tmp_path / "leases"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("SWEEP_CLOCKS", "RAY_ADDRESS", "SWEEP_SIMULATED_PERMISSION", "SWEEP_SETTER"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "small.toml").write_text(SWEEP)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
    for number, handler in handlers.items():  # `sweep run` takes them for the rest of its process
        signal.signal(number, handler)


def assert_explained(result: Result, exit_code: int, *words: str) -> None:
    """One message for a person, on stderr, and the contract's exit code."""
    assert result.exit_code == exit_code, result.output
    assert isinstance(result.exception, SystemExit)  # anything else would have been a traceback
    assert result.stdout == ""
    assert result.stderr.startswith("sweep: ")
    assert result.stderr.count("sweep: ") == 1
    for word in words:
        assert word in result.stderr


# the contract --------------------------------------------------------------------------------------------------------

TARIFF = ("--price", "--carbon", "--pue")
COMMANDS = {
    "run": {
        "--gpu",
        "--out",
        "--fresh",
        "--clocks",
        "--engine",
        "--address",
        "--server",
        "--server-gpus",
        "--plain",
        "--limit",
        *TARIFF,
    },
    "plan": {"--gpu", "--out", "--clocks", "--server", "--server-gpus", "--json"},
    "report": {
        "--max-slowdown",
        "--min-quality-change",
        "--max-ttft",
        "--max-tpot",
        *TARIFF,
        "--csv",
        "--tables",
        "--plots",
        "--entities",
        "--json",
    },
    "import": {"--out"},
    "export": {"--format", "--out"},
    "tasks": {"--all", "--json"},
    "doctor": {"--gpu", "--reset-clocks", "--verbose", "--json"},
}
CHOICES = {"--clocks": ("apply", "read-only"), "--engine": ("vllm", "simulated")}
DEFAULTS = {"--gpu": "auto", "--engine": "vllm", "--clocks": None, "--out": None, "--fresh": False, "--limit": None}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_keep_their_options(name: str) -> None:
    command = typer.main.get_command(app).commands[name]
    options = {parameter.opts[0]: parameter for parameter in command.params if parameter.param_type_name == "option"}
    assert set(options) == COMMANDS[name]
    for option, default in DEFAULTS.items():
        if option in options:
            assert getattr(options[option].default, "value", options[option].default) == default


def test_run_and_plan_take_a_file_and_report_a_run() -> None:
    commands = typer.main.get_command(app).commands
    arguments = {
        name: [p.metavar for p in command.params if p.param_type_name == "argument"]
        for name, command in commands.items()
    }
    assert {name: arguments[name] for name in COMMANDS} == {
        "run": ["FILE"],
        "plan": ["FILE"],
        "report": ["RUN"],
        "import": ["FILE"],
        "export": ["RUN"],
        "tasks": ["WORD"],
        "doctor": [],
    }


@pytest.mark.parametrize("option", CHOICES)
def test_options_with_choices_name_them(sweep: Sweep, option: str) -> None:
    result = sweep("run", "small.toml", option, "maybe")
    assert result.exit_code == 2
    assert all(f"'{choice}'" in result.stderr for choice in CHOICES[option])


def test_help_names_every_command_and_where_to_start(sweep: Sweep) -> None:
    result = sweep("--help")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in COMMANDS)
    assert "sweep run sweeps/demo.toml" in result.stdout


@pytest.mark.parametrize("name", ["run", "plan", "watch", "report", "doctor", "tasks"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_each_commands_help_has_an_example(sweep: Sweep, name: str, flag: str) -> None:
    result = sweep(name, flag)
    assert result.exit_code == 0
    assert f"For example: `sweep {name}" in " ".join(result.stdout.split())


def test_the_list_of_commands_cuts_no_sentence_off(sweep: Sweep) -> None:
    result = sweep("--help")
    assert "..." not in result.stdout.partition("Commands:")[2]
    assert "3 the machine cannot do it" in " ".join(result.stdout.split())


def test_help_imports_nothing_heavy() -> None:
    heavy = ("ray", "polars", "vllm", "torch", "pydantic", "rich", "lm_eval", "pynvml", "numpy")
    program = (
        "import sys\nsys.argv = ['sweep', '--help']\nfrom runner.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        f"print('imported:', [name for name in {heavy!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.splitlines()[-1] == "imported: []"


# exit code 2: the file or the command --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_file_that_is_not_there_is_explained(sweep: Sweep, command: str) -> None:
    assert_explained(sweep(command, "smal.toml"), 2, "smal.toml", "no such file", 'did you mean "small.toml"')


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ('name = "small"', 'name = "small"\nrepeat = 3', ['"repeat" is not a key', 'did you mean "repeats"']),
        ('"60%"', '"160%"', ["160%", "percentage"]),
        ("concurrency = 2", "concurrency = 0", ["concurrency", "at least 1"]),
        ("[axes]", "[axes", ["is not TOML"]),
        ('name = "synthetic"', 'name = "syntetic"', ["num_prompt_tokens", 'belong to task "synthetic"']),
    ],
)
def test_a_wrong_file_is_explained(sweep: Sweep, tmp_path: Path, right: str, wrong: str, words: list[str]) -> None:
    assert right in SWEEP
    (tmp_path / "wrong.toml").write_text(SWEEP.replace(right, wrong))
    for command in ("run", "plan"):
        assert_explained(sweep(command, "wrong.toml"), 2, "wrong.toml", *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            "engine = { max_num_batched_token = 64 }",
            ["engine.max_num_batched_token is not an", 'mean "max_num_batched_tokens"?'],
        ),
        ('[model.grid]\ndtype = ["bfloat61"]', ['grid.dtype[0] = "bfloat61" is not allowed', 'mean "bfloat16"?']),
    ],
)
def test_an_engine_argument_that_vllm_lacks_is_refused_before_anything_is_asked(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, words: list[str]
) -> None:
    monkeypatch.setattr(
        "runner.execution.preflight.model_access.check_access", lambda _: pytest.fail("the hub was asked")
    )
    (tmp_path / "wrong.toml").write_text(HUB_MODEL.replace("[[task]]", f"{lines}\n[[task]]"))
    for command in ("run", "plan"):
        assert_explained(sweep(command, "wrong.toml", "--gpu", "sim"), 2, "wrong.toml: model[0].", *words)
    assert not (tmp_path / "runs").exists()


def test_a_task_that_nobody_knows_is_explained(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text(SWEEP.replace('"synthetic"', '"hellaswagg"').replace(LENGTHS, ""))
    assert_explained(
        sweep("plan", "wrong.toml"), 2, 'wrong.toml: task[0].name = "hellaswagg"', "did you mean hellaswag or"
    )


LENGTHS = "num_prompt_tokens = 64\nnum_output_tokens = 16\nnum_requests = 8\n"


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_metric_that_a_task_lacks_is_explained(sweep: Sweep, tmp_path: Path, command: str) -> None:
    task = SWEEP.replace('"synthetic"', '"tiny_qa"').replace(LENGTHS, 'quality_metric = "exact_mach"\n')
    (tmp_path / "wrong.toml").write_text(task)
    words = [
        'wrong.toml: task[0].quality_metric = "exact_mach" is unknown: task "tiny_qa" has exact_match',
        'did you mean "exact_match"?',
    ]
    assert_explained(sweep(command, "wrong.toml", "--gpu", "sim"), 2, *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["run", "plan"])
def test_texts_for_a_model_without_a_tokenizer_are_refused_before_ray(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("runner.execution.driver.cluster.ray_session", lambda _: pytest.fail("Ray was started"))
    (tmp_path / "small.toml").write_text(f'{SWEEP}\n[[task]]\nname = "tiny_qa"\n[[task]]\nname = "tiny_facts"\n')
    result = sweep(command, "small.toml", "--gpu", "sim")
    words = [
        'small.toml: model[0].id = "shapes/llama-3.2-1b" has random weights and no tokenizer',
        'task[1].name = "tiny_qa", task[2].name = "tiny_facts" needs one: use task "synthetic"',
    ]
    assert_refused(result, command, 2, *words)
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ('id = "shapes/lama-3.2-1b"', ['model[0].id = "shapes/lama-3.2-1b" is unknown', 'mean "llama-3.2-1b"']),
        ('id = "gpus"\ntwin = "qwen2.5-32"', ["without config.json", 'model[0].twin = "qwen2.5-32" is unknown']),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_model_that_is_not_here_is_explained(
    sweep: Sweep, tmp_path: Path, command: str, model: str, words: list[str]
) -> None:
    (tmp_path / "gpus").mkdir()
    (tmp_path / "wrong.toml").write_text(SWEEP.replace('id = "shapes/llama-3.2-1b"', model))
    assert_explained(sweep(command, "wrong.toml", "--gpu", "sim"), 2, "wrong.toml: ", *words)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "small.toml", "--gpus", "all"],
        ["run", "small.toml", "--limit", "0"],
        ["run"],
        ["plan"],
        ["report"],
        ["rnu", "small.toml"],
        [],
    ],
)
def test_a_wrong_command_is_refused(sweep: Sweep, arguments: list[str]) -> None:
    result = sweep(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("gpu", ["sim:h9000", "sim:h200x0", "sim:"])
def test_a_simulated_gpu_that_does_not_exist_is_explained(sweep: Sweep, command: str, gpu: str) -> None:
    assert_explained(sweep(command, "small.toml", "--gpu", gpu), 2)


@pytest.mark.parametrize("gpu", ["al", "SIM", "-1", "0,,1", ""])
def test_gpus_that_nobody_could_mean_are_explained_wherever_it_is_asked(sweep: Sweep, gpu: str) -> None:
    mistake = f"in --gpu {gpu!r} is not a GPU: give all, auto, sim"
    assert_explained(sweep("plan", "small.toml", "--gpu", gpu), 2, mistake)


def test_an_order_that_cannot_be_understood_is_explained(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_CLOCKS", "yes")
    assert_explained(sweep("run", "small.toml"), 2, "SWEEP_CLOCKS", "apply or read-only")


def test_a_directory_without_a_run_is_explained(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "runs" / "empty").mkdir(parents=True)
    RunStore(tmp_path / "runs" / "other").write_manifest({"sweep": {}, "options": {}})
    assert_explained(sweep("report", "runs/empty"), 2, "runs/empty holds no run", "runs/other")
    assert_explained(sweep("report", "nowhere/at/all"), 2, "nowhere/at/all holds no run", "runs/other")
    assert_explained(sweep("report", "small.toml"), 2, "small.toml holds no run", "runs/other")


def test_a_run_directory_that_cannot_be_made_is_explained(sweep: Sweep) -> None:
    result = sweep("run", "small.toml", "--gpu", "sim", "--out", "small.toml")
    assert_explained(result, 2, "small.toml cannot be a run directory (File exists): give another --out")


def test_a_damaged_manifest_is_explained(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    assert_explained(sweep("report", "."), 2, "manifest.json cannot be read", "--fresh")


def test_a_directory_that_another_run_holds_is_explained(sweep: Sweep, tmp_path: Path) -> None:
    with RunStore(tmp_path / "runs" / "small"):
        assert_explained(sweep("run", "small.toml", "--gpu", "sim"), 2, "in use by another run", "--out")


def test_a_word_that_no_task_holds_is_explained(sweep: Sweep) -> None:
    assert_explained(sweep("tasks", "zzzz"), 2, "holds 'zzzz'", "sweep tasks --all")


HUB_MODEL = SWEEP.replace("shapes/llama-3.2-1b", "org/model")


def test_a_model_that_nobody_knows_is_refused_before_ray(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = ModelAccess(label="org/model", commit=None, problem="wrong", message="there is no model 'org/model'")
    monkeypatch.setattr("runner.execution.preflight.model_access.check_access", lambda _: [access])
    monkeypatch.setattr("runner.execution.driver.cluster.ray_session", lambda _: pytest.fail("Ray was started"))
    (tmp_path / "small.toml").write_text(HUB_MODEL)
    for command in ("run", "plan"):
        assert_refused(sweep(command, "small.toml", "--gpu", "sim"), command, 2, "there is no model 'org/model'")
        assert not (tmp_path / "runs").exists()


# exit code 3: the machine --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", ["all", "0", "GPU-1a2b3c4d"])
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_gpu_that_is_not_there_is_explained_in_one_sentence(
    sweep: Sweep, tmp_path: Path, command: str, gpu: str
) -> None:
    result = sweep(command, "small.toml", "--gpu", gpu)
    assert_explained(result, 3)
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


AXES = 'sm_clock = ["default", "60%"]'


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ("sm_clock = [5000]", ["sm_clock = 5000 is out of range", "345 to 1980 MHz"]),
        ('sm_clock = ["10%"]', ['sm_clock = "10%" (198 MHz) is out of range']),
        ("power_limit = [100]", ["power_limit = 100.0 is out of range", "200 to 700 W"]),
        ("sm_clock = [5000]\nmem_clock = [9]", ["mem_clock = 9 is out of range", "2201 to 3201 MHz"]),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_what_the_gpu_cannot_be_set_to_is_refused_before_anything_is_loaded(
    sweep: Sweep, tmp_path: Path, command: str, axes: str, words: list[str]
) -> None:
    (tmp_path / "small.toml").write_text(SWEEP.replace(AXES, axes))
    result = sweep(command, "small.toml", "--gpu", "sim")
    assert_refused(result, command, 2, *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_axis_that_the_gpu_lacks_is_refused(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(SimulatedNvml, "nvmlDeviceGetSupportedMemoryClocks", lambda *_: [3201])
    monkeypatch.setattr(SimulatedNvml, "nvmlDeviceGetPowerManagementLimitConstraints", lambda *_: [None, None])
    axes = f'{AXES}\nmem_clock = ["100%"]\npower_limit = ["80%"]'
    (tmp_path / "small.toml").write_text(SWEEP.replace(AXES, axes))
    assert_refused(sweep(command, "small.toml", "--gpu", "sim"), command, 3, "one memory clock, 3201 MHz")
    (tmp_path / "small.toml").write_text(SWEEP.replace(AXES, 'power_limit = ["80%"]'))
    assert_refused(sweep(command, "small.toml", "--gpu", "sim"), command, 3, "no power limit to set")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_without_permission_clock_axes_are_refused_with_the_ways_out(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("SWEEP_SIMULATED_PERMISSION", "denied")
    result = sweep(command, "small.toml", "--gpu", "sim")
    assert_refused(result, command, 3, "cannot be set", "run as root", "SWEEP_SETTER=sudo", "--clocks read-only")
    assert not (tmp_path / "runs").exists()
    for option, axes in (["--clocks", "read-only"], AXES), ([], 'sm_clock = ["default"]'):
        (tmp_path / "small.toml").write_text(SWEEP.replace(AXES, axes))
        assert sweep("plan", "small.toml", "--gpu", "sim", *option).exit_code == 0


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_environment_that_hides_the_engine_is_refused_before_ray(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("runner.execution.driver.cluster.ray_session", lambda _: pytest.fail("Ray was started"))
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    assert_refused(sweep(command, "small.toml", "--gpu", "sim"), command, 3, "VLLM_ENABLE_V1_MULTIPROCESSING is 0")
    assert not (tmp_path / "runs").exists()


def test_a_model_that_may_not_be_had_is_refused_before_ray(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = ModelAccess(label="org/model", commit=None, problem="denied", message="model 'org/model' is gated")
    monkeypatch.setattr("runner.execution.preflight.model_access.check_access", lambda _: [access])
    monkeypatch.setattr("runner.execution.driver.cluster.ray_session", lambda _: pytest.fail("Ray was started"))
    (tmp_path / "small.toml").write_text(HUB_MODEL)
    for command in ("run", "plan"):
        assert_refused(sweep(command, "small.toml", "--gpu", "sim"), command, 3, "model 'org/model' is gated")
        assert not (tmp_path / "runs").exists()


def test_offline_a_plan_warns_of_a_model_that_is_not_here_and_a_run_refuses(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.execution.driver.cluster.ray_session", lambda _: pytest.fail("Ray was started"))
    (tmp_path / "small.toml").write_text(HUB_MODEL)
    planned = sweep("plan", "small.toml", "--gpu", "sim", "--json")
    assert planned.exit_code == 0
    assert json.loads(planned.stdout)["trials"]
    assert planned.stderr.startswith("sweep: warning: model 'org/model' is not")
    assert_explained(sweep("run", "small.toml", "--gpu", "sim"), 3, "'org/model'", "HF_HUB_OFFLINE")


def assert_refused(result: Result, command: str, exit_code: int, *words: str) -> None:
    """As `assert_explained`; a plan is shown all the same."""
    if command == "plan":
        assert "Simulated NVIDIA H200" in result.stdout
        result.stdout_bytes = b""
    assert_explained(result, exit_code, *words)


def test_doctor_without_a_gpu_says_what_to_do(sweep: Sweep) -> None:
    result = sweep("doctor", "--gpu", "all")
    assert result.exit_code == 3
    assert "This machine cannot measure yet." in result.stdout
    assert "--gpu sim" in result.stdout


def test_doctor_fails_where_a_lock_is_left_that_it_cannot_clear(sweep: Sweep, tmp_path: Path) -> None:
    assert sweep("doctor", "--gpu", "sim", "--reset-clocks").exit_code == 0
    (tmp_path / "leases" / "GPU-another.json").write_text("{")
    result = sweep("doctor", "--gpu", "sim", "--reset-clocks")
    assert "GPU-another: not restored: " in result.stdout
    assert "clocks are at the GPU's default" in result.stdout  # the GPUs that can be reset are
    result.stdout_bytes = b""
    assert_explained(result, 3, "GPU-another")


# exit code 0 ---------------------------------------------------------------------------------------------------------


def test_doctor_as_json_is_json(sweep: Sweep) -> None:
    checks = json.loads(sweep("doctor", "--gpu", "sim", "--json").stdout)
    assert {"level", "subject", "finding", "advice", "is_detail"} == set(checks[0])
    assert any("GPU-SIM-H200-0" in check["finding"] for check in checks)
    assert [check["is_detail"] for check in checks if check["finding"].startswith("sensor ")] == [True] * 4


@pytest.mark.parametrize("flag", ["-v", "--verbose"])
def test_doctor_prints_what_each_sensor_is_like_where_it_is_asked_to(sweep: Sweep, flag: str) -> None:
    brief, full = (sweep("doctor", "--gpu", "sim", *flags).stdout for flags in ((), (flag,)))
    assert ["sensor 'counter': " in text for text in (brief, full)] == [False, True]
    assert "Looking at" not in full  # this is no terminal


def test_tasks_are_listed_ours_first_and_the_rest_on_request(sweep: Sweep) -> None:
    listed = sweep("tasks")
    assert listed.exit_code == 0
    assert listed.stdout.index("tiny_qa") < listed.stdout.index("truthfulqa_gen")
    assert "mmlu" not in listed.stdout
    assert "more of lm-evaluation-harness" in listed.stdout
    searched = json.loads(sweep("tasks", "hellaswag", "--json").stdout)
    assert [task["name"] for task in searched][:2] == ["hellaswag", "hellaswag_generate"]
    assert [task["kind"] for task in searched][:2] == ["prefill only", "generating"]
    assert {task["origin"] for task in searched} == {"study", "harness"}
    everything = json.loads(sweep("tasks", "--all", "--json").stdout)
    assert len(everything) > 1000


def test_a_plan_sets_and_writes_nothing(sweep: Sweep, tmp_path: Path) -> None:
    result = sweep("plan", "small.toml")
    assert result.exit_code == 0
    assert "Simulated NVIDIA H200" in result.stdout
    assert not (tmp_path / "runs").exists()
    settings = list((tmp_path / "gpus").glob("*/settings.jsonl"))
    assert [len(path.read_text().splitlines()) for path in settings] == [1]  # that it was switched on


def test_a_plan_as_json_holds_every_trial(sweep: Sweep) -> None:
    plan = json.loads(sweep("plan", "small.toml", "--json").stdout)
    assert (plan["name"], plan["simulated"], plan["num_finished"]) == ("small", True, 0)
    assert [trial["sm_clock_mhz"] for trial in plan["trials"] if not trial["is_sentinel"]] in (
        [None, 1185],
        [1185, None],
    )
    assert sum(trial["estimated_energy_j"] for trial in plan["trials"]) == pytest.approx(plan["estimated_energy_j"])


@pytest.mark.parametrize("environment", ["", "read-only"])
def test_read_only_plans_the_gpus_own_clocks(sweep: Sweep, monkeypatch: pytest.MonkeyPatch, environment: str) -> None:
    monkeypatch.setenv("SWEEP_CLOCKS", environment)
    option = [] if environment else ["--clocks", "read-only"]
    plan = json.loads(sweep("plan", "small.toml", "--json", *option).stdout)
    assert plan["read_only"]
    assert [trial["sm_clock_mhz"] for trial in plan["trials"]] == [None]


def test_there_are_sweeps_to_start_from() -> None:
    assert ROOT / "sweeps" / "demo.toml" in SWEEP_FILES


@pytest.mark.parametrize("file", SWEEP_FILES, ids=lambda file: file.stem)
def test_every_sweep_of_ours_plans_without_a_problem(sweep: Sweep, file: Path) -> None:
    result = sweep("plan", file, "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["name"] == file.stem
    assert {trial["problem"] for trial in plan["trials"]} == {None}
    assert plan["estimated_duration_s"] > 0
