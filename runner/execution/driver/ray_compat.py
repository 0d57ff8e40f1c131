"""Everything that we use of Ray beyond its documented interface: variables, private names, the words of its errors.

A release of Ray may change any of it, so no other module uses any. tests/execution/driver/test_ray_compat.py holds it
against the installed release.
"""

import logging
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.exceptions import RayActorError

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""The cluster that a run joins where no address is given."""
QUIET_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's own handler in C++ would abort this process 3 s after SIGTERM, and would leave no handler in place while Ray
    # shuts down.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    # Ray prints half a page for a worker that dies. The run itself prints one line.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",
}
"""Variables for every run."""
OWN_RAY_ENVIRONMENT = {
    # Ray listens on the loopback interface alone where it takes a machine for a desktop. It reads this on import.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Ray's workers would run at niceness 15, so that every other process of this machine came before a measured engine.
    "RAY_worker_niceness": "0",
    # Ray's helper processes import a lot. On two busy cores the usual 15 s do not always suffice.
    "RAY_agent_register_timeout_ms": "120000",
    # After a SIGKILL of the driver, they would wait 60 s for a control store (GCS) that never comes back.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}
"""Variables for a run that starts Ray on this machine."""
RAY_LOGS = "/tmp/ray/session_latest/logs"
"""The folder of a process's logs, on the host where the process ran."""
_QUIET_OPTIONS: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that interrupt a run."""
_PROCESS_ID = re.compile(r"^\s*pid: (\d+)$", re.MULTILINE)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Hold a signal back until the end. A second signal takes effect at once.

    Raises: what the handlers of `_SIGNALS` raise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in its main thread only
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    held_back: list[int] = []

    def let_through() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for held in held_back:
            signal.raise_signal(held)

    def hold_back(number: int, _: Any) -> None:
        held_back.append(number)
        if len(held_back) > 1:
            let_through()

    for number in handlers:
        signal.signal(number, hold_back)
    try:
        yield
    finally:
        let_through()


def import_ray() -> None:
    """Import Ray whole. Where a signal ends its import in the middle, what Ray has left for the exit fails there."""
    with signals_held_back():
        import ray  # noqa: F401


def init_ray(**options: Any) -> None:
    """Call `ray.init`, and hold a signal back until it returns.

    An exception in the middle of `ray.init` may leave threads of Ray's C++ part running. When this process exits, it
    destroys what those threads use: it hangs, or ends by SIGSEGV.

    Args:
        options: as `ray.init` takes them, beside those that keep it quiet.
    Raises: what `ray.init` raises, and what the handlers of `_SIGNALS` raise.
    """
    import ray
    from ray.job_config import JobConfig

    class OwnCode(JobConfig):  # type: ignore[misc]  # Ray has no types for it
        def _runtime_env_has_working_dir(self) -> bool:
            # Ray puts the current folder first on the search path of its workers, unless the job has a folder of its
            # own. A `runner.py` there, or another checkout of this program, would be imported in place of this one.
            return True

    with signals_held_back():
        ray._private.utils.set_sigterm_handler = lambda _: None  # Ray's handler for SIGTERM would exit at once
        ray.init(job_config=OwnCode(), **options, **_QUIET_OPTIONS)


def list_live_node_ids() -> list[str]:
    """Return the ids of the cluster's nodes that are alive."""
    import ray

    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def describe_death(error: "RayActorError") -> str:
    """Say in one line how an actor's process ended and where its logs are. Ray's own message takes half a page."""
    text = str(error).strip()
    if error.actor_init_failed:
        return f"its process did not start: {text.splitlines()[-1]}"
    found = _PROCESS_ID.search(text)
    return (
        f"its process {found[1]} died; its logs: {RAY_LOGS}/*{found[1]}.*"
        if found
        else f"it died; its logs: {RAY_LOGS}"
    )
