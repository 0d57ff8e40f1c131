"""The message about an actor's death: one line, made from Ray's error."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from runner.execution.driver.actors import await_answer
from runner.execution.driver.cluster import ClusterError


@pytest.fixture
def dying(cluster: Path) -> Any:
    """An actor's class. It is local, so that Ray's processes need not import this module."""
    import ray

    class Dying:
        def __init__(self, *, starts: bool = True) -> None:
            if not starts:
                raise TypeError("no such GPU")

        def process_id(self) -> int:
            return os.getpid()

        def die(self) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    return ray.remote(num_cpus=0)(Dying)


def test_who_died_is_told_in_a_line_with_its_logs(dying: Any) -> None:
    actor = dying.remote()
    process_id = await_answer(actor.process_id.remote())
    with pytest.raises(ClusterError) as death:
        await_answer(actor.die.remote(), whose="the worker of GPU 0 on node2")
    told, logs, then = str(death.value).split("; ")
    assert told == f"the worker of GPU 0 on node2 is gone: its process {process_id} died"
    pattern = Path(logs.removeprefix("its logs: "))
    assert pattern.name == f"*{process_id}.*"
    assert pattern.parent.parts[-2:] == ("session_latest", "logs")
    # The latest session may be that of another Ray by now: tests before this one start some.
    assert list(pattern.parents[2].glob(f"session_*/logs/{pattern.name}"))
    assert then == "the same command resumes the run"


def test_what_a_constructor_raises_is_no_less_plain(dying: Any) -> None:
    actor = dying.remote(starts=False)
    with pytest.raises(ClusterError) as death:
        await_answer(actor.process_id.remote())
    told, _, then = str(death.value).partition("; ")
    assert told == "the aggregator is gone: its process did not start: TypeError: no such GPU"
    assert then == "the same command resumes the run"
