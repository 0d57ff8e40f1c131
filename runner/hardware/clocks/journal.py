"""The journal of a lease. It is on disk before anything is set, so that after a crash it says what must be put back.

It is one JSON file for each GPU, in a folder that only its user may use. Its writer holds the lock file beside it.
"""

import fcntl
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from runner.hardware.clocks.processes import ProcessId, is_alive, read_boot_id
from runner.hardware.gpu import GpuAddress, GpuError
from runner.spec.operating_point import Setting

JOURNAL_DIR_VARIABLE = "SWEEP_LEASE_DIR"


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseJournal:
    """Who holds a GPU, what was set on it, and how to open it again."""

    lease_id: str
    gpu_uuid: str
    host: str
    boot_id: str
    since_ns: int
    owners: tuple[ProcessId, ...]
    """The worker, whose engine runs on the GPU, then the driver, without which the worker has nothing to do."""
    descendants: tuple[ProcessId, ...] = ()
    """The worker's children, their children and so on, as the guard saw them last."""
    nvml_request: str
    """What `factory.open_gpu` takes to reach the GPU."""
    state_dir: str | None
    """The folder of the simulated GPUs' state; None for a real GPU."""
    read_only: bool
    prior_power_limit_w: float | None
    changed: tuple[Setting, ...] = ()
    """What was set at least once. It is written here before it is set."""

    @property
    def worker_lives(self) -> bool:
        """Whether the worker still runs, in this boot of this machine."""
        return self.boot_id == read_boot_id() and is_alive(self.owners[0])

    @property
    def all_owners_live(self) -> bool:
        """Whether the worker and the driver still run."""
        return self.boot_id == read_boot_id() and all(map(is_alive, self.owners))

    def describe(self) -> str:
        """Return in words who holds the GPU."""
        since = datetime.fromtimestamp(self.since_ns * 1e-9, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"process {self.owners[0].pid} on {self.host}, since {since}"


def find_journal_dir(journal_dir: Path | None = None) -> Path:
    """Return the folder of the journals: the argument, SWEEP_LEASE_DIR, or one in the temporary folder.

    Raises: GpuError: it cannot be made, or it belongs to another user, who could forge what a guard carries out.
    """
    default = Path(tempfile.gettempdir()) / f"joulesweep-{os.getuid()}" / "leases"
    directory = journal_dir or Path(os.environ.get(JOURNAL_DIR_VARIABLE) or default)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = directory.stat().st_uid
    except OSError as error:
        raise _cannot_be_kept(directory, error) from error
    if owner != os.getuid():
        raise GpuError(f"{directory} belongs to another user; set {JOURNAL_DIR_VARIABLE} to a folder of your own")
    return directory


def journal_path(directory: Path, address: GpuAddress) -> Path:
    """Return the file of a GPU's journal. Simulated GPUs of two state folders are two GPUs."""
    suffix = "" if address.state_dir is None else f"-{zlib.crc32(str(address.state_dir).encode()):08x}"
    return directory / f"{address.uuid}{suffix}.json"


def read_journal(path: Path) -> LeaseJournal | None:
    """Return a GPU's journal; None where no lease holds the GPU and nothing is owed.

    Raises: GpuError: the file cannot be read, or its content cannot be understood.
    """
    try:
        values = json.loads(path.read_text())
        known = {field.name for field in fields(LeaseJournal)}
        values = {name: value for name, value in values.items() if name in known}
        values["owners"] = tuple(ProcessId(*owner) for owner in values["owners"])
        values["descendants"] = tuple(ProcessId(*process) for process in values["descendants"])
        values["changed"] = tuple(values["changed"])
        return LeaseJournal(**values)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _cannot_be_kept(path, error) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise GpuError(
            f"the lease journal {path} cannot be understood ({error}); sweep doctor --reset-clocks resets the GPU's "
            "clocks and deletes it"
        ) from error


def read_sound_journal(path: Path) -> LeaseJournal | None:
    """Return a GPU's journal as `read_journal` does; None also where it cannot be read."""
    try:
        return read_journal(path)
    except GpuError:
        return None


def write_journal(path: Path, journal: LeaseJournal) -> None:
    """Replace a GPU's journal as a whole, readable only by its user. Raises: GpuError: it cannot be written."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as file:
            json.dump(asdict(journal), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise _cannot_be_kept(path, error) from error


@contextmanager
def hold_journal(path: Path) -> Iterator[None]:
    """Keep every other process from changing a GPU's journal meanwhile.

    Without a folder or a free file descriptor there is no lock, and this goes on. No journal can be written there
    either, and a GPU that must be put back cannot wait for a disk.
    """
    with ExitStack() as held:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Opened for reading, which also works on a disk that has become read-only.
            descriptor = os.open(path.with_suffix(".lock"), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _cannot_be_kept(path: Path, error: OSError) -> GpuError:
    return GpuError(f"no lease journal can be kept at {path} ({error.strerror}); set {JOURNAL_DIR_VARIABLE} elsewhere")
