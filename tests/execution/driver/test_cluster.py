"""Ray: how its workers run, and what happens when it does not start."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import ray

import runner
from runner.execution.driver.cluster import ClusterError, _start_ray
from runner.execution.driver.ray_compat import OWN_RAY_ENVIRONMENT, QUIET_ENVIRONMENT


class SlowRay:
    """Stands in for `ray.init`. The first `num_failures` calls leave a process behind and fail."""

    def __init__(self, num_failures: int) -> None:
        self.left: list[subprocess.Popen[bytes]] = []
        self.num_calls = 0
        self._num_failures = num_failures

    def __call__(self, **_: object) -> None:
        self.num_calls += 1
        if self.num_calls <= self._num_failures:
            self.left.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
            raise Exception("The current node timed out during startup.")


@pytest.fixture
def slow_ray(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> SlowRay:
    slow = SlowRay(request.param)
    monkeypatch.setattr(ray, "init", slow)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return slow


def test_a_worker_comes_no_later_than_whoever_started_it(address: str) -> None:
    niceness = ray.remote(num_cpus=0)(lambda: os.getpriority(os.PRIO_PROCESS, 0)).remote()
    assert ray.get(niceness) == os.getpriority(os.PRIO_PROCESS, 0)


def test_what_lies_in_the_current_folder_is_not_taken_for_this_program(address: str, tmp_path: Path) -> None:
    (tmp_path / "runner.py").write_text("raise ImportError('not that one')\n")
    program = (
        "import ray\nfrom runner.execution.driver.cluster import ray_session\n"
        f"with ray_session({address!r}):\n"
        "    find = ray.remote(num_cpus=0)(lambda: __import__('runner').__file__)\n"
        "    print(ray.get(find.remote()))\n"
    )
    command = [sys.executable, "-P", "-c", program]  # -P: nor by the driver
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == runner.__file__


@pytest.mark.parametrize("slow_ray", [1], indirect=True)
def test_a_slow_start_is_tried_again_and_leaves_no_process(slow_ray: SlowRay, caplog: pytest.LogCaptureFixture) -> None:
    _start_ray()
    assert slow_ray.num_calls == 2
    assert "trying once more" in caplog.text
    assert slow_ray.left[0].wait(60) == -9


@pytest.mark.parametrize("slow_ray", [2], indirect=True)
def test_a_second_failure_is_final(slow_ray: SlowRay) -> None:
    with pytest.raises(ClusterError, match=r"timed out during startup.*logs"):
        _start_ray()
    assert slow_ray.num_calls == 2
    assert [process.wait(60) for process in slow_ray.left] == [-9, -9]
    assert not any(child.pid in {process.pid for process in slow_ray.left} for child in psutil.Process().children())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        pytest.param("ray._private.state", "GlobalStateAccessor", id="its node comes up"),
        pytest.param("ray._raylet", "CoreWorker", id="its core worker is made, and not kept yet"),
        pytest.param("ray._private.node.Node", "kill_all_processes", id="its core worker is gone"),
    ],
)
def test_a_signal_in_the_middle_of_ray_interrupts_the_session(
    monkeypatch: pytest.MonkeyPatch, owner: str, name: str, number: signal.Signals
) -> None:
    program = (
        "import signal, sys\nimport ray\nfrom runner.execution.driver.cluster import ray_session\n"
        f"call = {owner}.{name}\n"
        "def call_and_signal(*arguments, **options):\n"
        f"    {owner}.{name} = call\n"
        "    answer = call(*arguments, **options)\n"
        f"    signal.raise_signal({number:d})\n"
        "    return answer\n"
        f"{owner}.{name} = call_and_signal\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "try:\n"
        "    with ray_session(None):\n"
        "        pass\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    environment = os.environ | QUIET_ENVIRONMENT | OWN_RAY_ENVIRONMENT  # the program imports Ray before it is started
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (130, "")


def test_a_signal_in_the_middle_of_rays_import_interrupts_the_session() -> None:
    program = (
        "import atexit, signal, sys\nfrom runner.execution.driver.cluster import ray_session\n"
        "register = atexit.register\n"
        "def register_and_signal(function, *arguments, **options):\n"
        "    if function.__module__.startswith('ray.'):\n"
        "        atexit.register = register\n"
        "        register(function, *arguments, **options)\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    return function\n"
        "atexit.register = register_and_signal\n"
        "try:\n"
        "    with ray_session(None):\n"
        "        pass\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (130, "")
