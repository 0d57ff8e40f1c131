"""One simulated board as its driver holds it: identity, settings, history, and when readings change."""

import fcntl
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.hardware.simulated_history import BoardHistory
from runner.physics.board import BoardModel
from runner.physics.board_state import BoardSettings, BoardState

TICK_NS = 100_000_000
"""Period of the energy counter, of the clocks and of the slower power readings."""
SAMPLE_NS = 20_000_000
"""Period of the sample buffer."""
_SAMPLE_JITTER_NS = 600_000


class SimulatedBoard:
    """One simulated board: what a device handle of `SimulatedNvml` points to.

    Its driver is loaded, and its energy counter at zero, when somebody first looks at it (`now_ns`): the first line of
    its settings says so to every later process.
    """

    def __init__(self, model: BoardModel, index: int, state_dir: Path, now_ns: int) -> None:
        self.model = model
        self.index = index
        self.uuid = _simulated_uuid(model, index)
        self.state = BoardState(state_dir / self.uuid)
        with self.locked():
            if not self.state.settings_history():
                self.state.change_settings(BoardSettings(time_ns=now_ns))
        self.loaded_ns = self.state.settings_history()[0].time_ns
        if self.loaded_ns > now_ns:
            raise ValueError(
                f"{self.state.directory} holds a board that was switched on later than this clock shows; "
                "use another folder (SWEEP_SIMULATED_STATE)"
            )
        self.history = BoardHistory(model, self.state.directory, self.loaded_ns)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the board's settings against other processes."""
        with (self.state.directory / "driver.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def last_tick_ns(self, now_ns: int) -> int:
        """Return the last instant at which the driver's 100 ms readings changed."""
        return self.loaded_ns + (now_ns - self.loaded_ns) // TICK_NS * TICK_NS

    def sample_ns(self, k: int) -> int:
        """Return when the k-th power sample was taken, in whole µs: 20 ms apart, with a jitter that k alone decides."""
        jitter_ns = zlib.crc32(k.to_bytes(8)) * _SAMPLE_JITTER_NS >> 32
        return (self.loaded_ns + k * SAMPLE_NS + jitter_ns) // 1000 * 1000


def _simulated_uuid(model: BoardModel, index: int) -> str:
    """Return the id of the index-th simulated board of a kind, the same in every process."""
    kind = re.sub(r"[^A-Z0-9]+", "-", model.name.upper().removeprefix("NVIDIA "))
    return f"GPU-SIM-{kind}-{index}"
