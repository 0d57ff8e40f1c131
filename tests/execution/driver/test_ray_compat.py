"""The private interfaces of Ray in `ray_compat` exist in the sources of the installed release. Ray is not imported."""

from runner.execution.driver.ray_compat import OWN_RAY_ENVIRONMENT, QUIET_ENVIRONMENT, RAY_LOGS
from tests.interfaces.collect import check_snapshot, make_snapshot
from tests.interfaces.interface import Interface, Text
from tests.interfaces.sources import installed_root

RAY = (
    Interface(
        "ray",
        "init",
        (
            "address",
            "num_cpus",
            "num_gpus",
            "include_dashboard",
            "object_store_memory",
            "job_config",
            "log_to_driver",
            "logging_level",
            "configure_logging",
        ),
        use="call",
    ),
    Interface("ray", "shutdown", use="call"),
    Interface("ray", "nodes", use="call"),
    Interface("ray.runtime_context", "RuntimeContext", attributes=("get_node_id", "gcs_address")),
    Interface("ray._private.utils", "set_sigterm_handler", ("sigterm_handler",), use="override"),
    Interface("ray.job_config", "JobConfig", use="call"),
    Interface("ray.job_config", "JobConfig._runtime_env_has_working_dir", use="override"),
    Interface("ray.exceptions", "RayTaskError", attributes=("cause",)),
    Interface("ray.exceptions", "RayActorError", attributes=("actor_init_failed",)),
    Interface("ray.exceptions", "GetTimeoutError"),
    Interface(
        "ray.util.scheduling_strategies",
        "NodeAffinitySchedulingStrategy",
        ("node_id", "soft"),
        positional=1,
        use="call",
    ),
    # test_cluster.py sends signals from here.
    Interface("ray._private.node", "Node.kill_all_processes"),
)
CONSTANTS, C_PART, RAYLET = "_private/ray_constants.py", "_raylet.so", "core/src/ray/raylet/raylet"
VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "_common/usage/usage_constants.py",
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": C_PART,
    "RAY_DEDUP_LOGS_SKIP_REGEX": CONSTANTS,
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": CONSTANTS,
    "RAY_worker_niceness": RAYLET,
    "RAY_agent_register_timeout_ms": RAYLET,
    "RAY_gcs_rpc_server_reconnect_timeout_s": RAYLET,
}
"""Every variable that a run sets, and the file of Ray's package that reads it."""
TEXTS = (
    # Ray looks both up where it calls them, so that it finds ours instead.
    Text(
        "_private/worker.py",
        (
            "ray._private.utils.set_sigterm_handler(sigterm_handler)",
            "job_config._runtime_env_has_working_dir()",
            "ray._raylet.CoreWorker(",
        ),
    ),
    Text("_private/state.py", ("GlobalStateAccessor(",)),
    Text("_private/node.py", ("ray._private.utils.set_sigterm_handler(sigterm_handler)",)),
    # `describe_death` reads this line of the message.
    Text("exceptions.py", ('f"\\tpid: {cause.pid}"', "raised in its creation task")),
    Text(CONSTANTS, ('"RAY_ADDRESS"', '"session_latest"')),
    # The keys of `ray.nodes()` are in no Python source.
    Text(C_PART, ("Alive", "NodeID")),
    *(Text(path, (name,)) for name, path in VARIABLES.items()),
)


def test_the_installed_ray_has_what_we_use() -> None:
    assert check_snapshot(make_snapshot(installed_root("ray"), RAY, TEXTS), RAY, TEXTS) == []


def test_every_interface_stands_once() -> None:
    keys = [interface.key for interface in RAY]
    assert len(keys) == len(set(keys))


def test_every_variable_that_a_run_sets_is_one_that_ray_reads() -> None:
    assert VARIABLES.keys() == QUIET_ENVIRONMENT.keys() | OWN_RAY_ENVIRONMENT.keys()


def test_the_logs_lie_in_the_folder_that_ray_names() -> None:
    assert "session_latest" in RAY_LOGS
