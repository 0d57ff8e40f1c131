"""The GPUs that are still locked after a run, as the journals of the leases tell. GPU groups enter, labels leave."""

import time
from collections.abc import Sequence

from runner.execution.gpu_group import GpuGroup
from runner.hardware.clocks.journal import find_journal_dir, read_sound_journal

GUARD_LIMIT_S = 3.0
"""A guard puts the clocks back within 2 s of the death of a worker."""
_POLL_S = 0.1


def list_not_restored(groups: Sequence[GpuGroup]) -> tuple[str, ...]:
    """Return the labels of the GPUs on this machine whose clocks or limits are not back, after their guards had time.

    A GPU on another node is not seen from here: its own guard puts it back.
    """
    labels = {group.info.uuid: group.label for group in groups}
    deadline_s = time.monotonic() + GUARD_LIMIT_S
    while (owed := _list_owed(labels)) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    return tuple(labels[uuid] for uuid in owed)


def _list_owed(labels: dict[str, str]) -> list[str]:
    """The GPUs of which a journal says that something was set."""
    journals = map(read_sound_journal, sorted(find_journal_dir().glob("*.json")))
    return [journal.gpu_uuid for journal in journals if journal and journal.changed and journal.gpu_uuid in labels]
