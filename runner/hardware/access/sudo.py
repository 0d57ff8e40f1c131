"""Settings through `sudo -n nvidia-smi`, for users with a sudoers rule that allows just that (docs/permissions.md).

`SudoNvml` stands in for the `pynvml` module. It reads through NVML itself, and sets and resets through sudo.
"""

# ruff: noqa: N802 - the names are NVML's

import os
import subprocess
from collections.abc import Sequence
from typing import Any

from runner.hardware.gpu import PermissionDeniedError

SETTER_VARIABLE = "SWEEP_SETTER"
_COMMAND = ("sudo", "-n")
_PROGRAM = "/usr/bin/nvidia-smi"
_LIMIT_S = 60.0
_EXAMPLES = (
    "--lock-gpu-clocks=1000,1000",
    "--lock-memory-clocks=1000,1000",
    "--reset-gpu-clocks",
    "--reset-memory-clocks",
    "--power-limit=100.0",
)
"""One setting of each kind, to ask sudo about. They are never carried out."""


def uses_sudo() -> bool:
    """Return whether SWEEP_SETTER is sudo. Raises: ValueError: it is something else."""
    setter = os.environ.get(SETTER_VARIABLE, "")
    if setter not in ("", "sudo"):
        raise ValueError(f"{SETTER_VARIABLE} is {setter!r}; it may be sudo, or not set")
    return setter == "sudo"


def find_forbidden(uuids: Sequence[str]) -> str | None:
    """Return the first setting that sudo does not allow on these GPUs; None where it allows all. Nothing is set."""
    for uuid in uuids:
        for option in _EXAMPLES:
            command = (_PROGRAM, f"--id={uuid}", option)
            if _run((*_COMMAND, "-l", *command)).returncode:
                return f"sudo does not allow {' '.join(command)} without a password"
    return None


class SudoNvml:
    """The `pynvml` module, except that nvidia-smi under sudo makes the settings. A setting takes about 0.1 s."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml

    def __getattr__(self, name: str) -> Any:
        """Return NVML's own attribute for everything else."""
        return getattr(self._nvml, name)

    def nvmlDeviceSetGpuLockedClocks(self, handle: Any, min_mhz: int, max_mhz: int) -> None:
        """Lock the SM clock."""
        self._set(handle, f"--lock-gpu-clocks={min_mhz},{max_mhz}")

    def nvmlDeviceResetGpuLockedClocks(self, handle: Any) -> None:
        """Unlock the SM clock."""
        self._set(handle, "--reset-gpu-clocks")

    def nvmlDeviceSetMemoryLockedClocks(self, handle: Any, min_mhz: int, max_mhz: int) -> None:
        """Lock the memory clock."""
        self._set(handle, f"--lock-memory-clocks={min_mhz},{max_mhz}")

    def nvmlDeviceResetMemoryLockedClocks(self, handle: Any) -> None:
        """Unlock the memory clock."""
        self._set(handle, "--reset-memory-clocks")

    def nvmlDeviceSetPowerManagementLimit(self, handle: Any, limit_mw: int) -> None:
        """Set the power limit."""
        self._set(handle, f"--power-limit={limit_mw / 1000:.3f}")

    def _set(self, handle: Any, option: str) -> None:
        """Raises: NVMLError: with the exit code of nvidia-smi. PermissionDeniedError: sudo refuses."""
        uuid = self._nvml.nvmlDeviceGetUUID(handle)
        uuid = uuid.decode() if isinstance(uuid, bytes) else uuid
        answer = _run((*_COMMAND, _PROGRAM, f"--id={uuid}", option))
        if answer.returncode == 1:  # sudo's own code. nvidia-smi ends with NVML's codes, but never with this one.
            raise PermissionDeniedError(f"sudo refuses {_PROGRAM} {option}: {answer.stderr.strip()}")
        if answer.returncode:
            raise self._nvml.NVMLError(answer.returncode)
        if "not supported" in answer.stdout:  # nvidia-smi treats it as a warning
            raise self._nvml.NVMLError(self._nvml.NVML_ERROR_NOT_SUPPORTED)


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Return the result of a command. Raises: PermissionDeniedError: there is no sudo, or it does not answer."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PermissionDeniedError(f"{SETTER_VARIABLE}=sudo, but sudo does not answer: {error}") from error
