"""The check that a run directory does not hold another sweep. A sweep enters. Nothing leaves, or an error."""

from collections.abc import Sequence

from runner.results.run_directory import RunDirectoryError, RunStore
from runner.spec.sweep import SweepFileError, SweepSpec, parse_sweep
from runner.spec.trial import Block, expand_trials


def require_same_sweep(store: RunStore, sweep: SweepSpec, blocks: Sequence[Block]) -> None:
    """Refuse a directory whose trials all belong to another sweep: one report would show both.

    A sweep file that was changed keeps its directory as long as it shares a block with the earlier file.

    Raises: RunDirectoryError: the message says what is there and what to do.
    """
    manifest = store.read_manifest()
    if manifest is None or "imported" in manifest:
        return
    try:
        there = {block.block_id for block in expand_trials(parse_sweep(manifest["sweep"]))}
    except SweepFileError:  # an earlier release allowed what this one refuses
        return
    finished = store.finished_trial_ids()
    if not finished or not there.isdisjoint(block.block_id for block in blocks):
        return
    earlier = manifest["sweep"]["name"]
    which = f'sweep "{earlier}"' if earlier != sweep.name else f'another version of sweep "{earlier}"'
    raise RunDirectoryError(
        f"{store.directory} holds {which}: {len(finished):,} finished trials, and none of them belongs to this one. "
        "Give another --out, or start anew with --fresh, which removes them"
    )
