"""Pin every package: `lock.py VENV` rewrites requirements/{cpu,gpu,dev}.txt from pyproject.toml.

Plain `name==version` lines, the same for Python 3.11 to 3.13, no addresses. What text models do not need is left out
(see set_up.py). The GPU list keeps torch's CUDA packages; the CPU list leaves them out.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
NOT_NEEDED = {"torchvision", "torchaudio", "torchcodec"}
CUDA_PACKAGES = re.compile(r"nvidia-(?!ml-py)|cuda-|triton==")
OLDEST_PYTHON = "3.11"


def main() -> None:
    uv = Path(sys.argv[1]).absolute() / "bin" / "uv"
    known: set[str] = set()
    for kind in ("cpu", "gpu"):
        pins = [pin.replace("+cpu", "") for pin in resolve(uv, kind)]
        if kind == "cpu":
            pins = [pin for pin in pins if pin.split("==")[0] not in NOT_NEEDED and not CUDA_PACKAGES.match(pin)]
        write(f"{kind}.txt", pins)
        known |= {pin.split("==")[0] for pin in pins}
    dev = resolve(uv, "cpu", "dev")
    write("dev.txt", [pin for pin in dev if pin.split("==")[0] not in known | NOT_NEEDED])


def resolve(uv: Path, *extras: str) -> list[str]:
    """Return name==version of everything that the project needs with these extras."""
    options = [option for extra in extras for option in ("--extra", extra)]
    command = [str(uv), "pip", "compile", "-q", "--no-header", "--no-annotate", "--python-version", OLDEST_PYTHON]
    environment = dict(os.environ)
    if "cpu" in extras and "PIP_FIND_LINKS" in environment:
        environment["UV_FIND_LINKS"] = environment["PIP_FIND_LINKS"].replace(" ", ",")
    torch = ["--torch-backend", "cpu"] if "cpu" in extras and "UV_FIND_LINKS" not in environment else []
    output = subprocess.run(
        [*command, *torch, *options, "-c", "requirements/constraints.txt", "pyproject.toml"],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [line for line in output.splitlines() if "==" in line]


def write(name: str, pins: list[str]) -> None:
    (REQUIREMENTS / name).write_text("\n".join(pins) + "\n")
    print(f"requirements/{name}: {len(pins)} packages")


if __name__ == "__main__":
    main()
