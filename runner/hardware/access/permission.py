"""Whether this process may set clocks, found without trying to: the driver asks for one capability."""

import os
from collections.abc import Sequence
from pathlib import Path

from runner.hardware.access.read_only import CLOCKS_VARIABLE, environment_forbids_setting
from runner.hardware.access.sudo import SETTER_VARIABLE, find_forbidden, uses_sudo
from runner.hardware.gpu import GpuInfo, PermissionDeniedError

PERMISSION_VARIABLE = "SWEEP_SIMULATED_PERMISSION"
"""With the value "denied", the simulated driver refuses every setting, as a real one refuses a user who is not root."""
WAYS_OUT = (
    f"run as root; or {SETTER_VARIABLE}=sudo with a narrow sudoers rule; or measure at the default clock with "
    "--clocks read-only (docs/permissions.md)"
)
_CAP_SYS_ADMIN = 21


def find_obstacle(gpus: Sequence[GpuInfo]) -> str | None:
    """Return why this process cannot set clocks and limits of these GPUs; None where it finds no reason."""
    if environment_forbids_setting():
        return f"{CLOCKS_VARIABLE}={os.environ[CLOCKS_VARIABLE]} forbids it"
    if all(gpu.simulated for gpu in gpus):
        denied = os.environ.get(PERMISSION_VARIABLE) == "denied"
        return f"the simulated driver refuses it ({PERMISSION_VARIABLE}=denied)" if denied else None
    if uses_sudo():
        return find_forbidden([gpu.uuid for gpu in gpus])
    if _has_sys_admin():
        return None
    if os.geteuid() == 0:
        return "this is root in a container without the capability SYS_ADMIN (docker run --cap-add SYS_ADMIN)"
    return f"only root may set them, and this is user {os.geteuid()}"


def denied(obstacle: str, where: str = "here") -> PermissionDeniedError:
    """Return the error that names the obstacle and the ways out."""
    return PermissionDeniedError(f"clocks and limits cannot be set {where}: {obstacle}. Ways out: {WAYS_OUT}")


def _has_sys_admin() -> bool:
    """Return whether the driver takes this process for an administrator: CAP_SYS_ADMIN outside any user namespace."""
    try:
        status = Path("/proc/self/status").read_text()
        is_outermost = Path("/proc/self/uid_map").read_text().split() == ["0", "0", str(2**32 - 1)]
    except OSError:
        return os.geteuid() == 0
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return is_outermost and bool(int(effective, 16) >> _CAP_SYS_ADMIN & 1)
