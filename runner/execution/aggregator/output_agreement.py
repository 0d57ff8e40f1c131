"""The share of a trial's outputs that equal those at the default clock. A clock alone changes no output.

Completions of a trial's first round enter. The share of identical ones leaves, and the same share between two
default-clock trials: each trial forms other batches, and rounding differs with them.
"""

from collections.abc import Iterable, Mapping

from runner.results.measurement import Identity
from runner.spec.request import Completion


class OutputAgreement:
    """Compares the outputs of trials with those of their block's first default-clock trial."""

    def __init__(self) -> None:
        self._reference: dict[str, Mapping[str, object]] = {}
        self._between_defaults: dict[str, float] = {}

    def remember(self, block_id: str, outputs: Mapping[str, object]) -> None:
        """Take a block's reference: the text or the token ids of each output, by the id of its row."""
        self._reference[block_id] = outputs

    def compare(self, identity: Identity, completions: Iterable[Completion]) -> tuple[float | None, float | None]:
        """Return the share of outputs identical to the reference, and that share between two default-clock trials.

        The first default-clock trial of a block becomes its reference. None where there is nothing to compare yet.
        """
        outputs: dict[str, object] = {
            c.row_id: c.text if c.text is not None else c.output_token_ids
            for c in completions
            if c.kind == "generate" and c.error is None and (c.text is not None or c.output_token_ids)
        }
        if not outputs:
            return None, None
        reference = self._reference.get(identity.block_id)
        if reference is None:
            if identity.operating_point.is_default:
                self.remember(identity.block_id, outputs)
            return None, None
        common = outputs.keys() & reference.keys()
        if not common:
            return None, None
        agreement = sum(outputs[key] == reference[key] for key in common) / len(common)
        if identity.operating_point.is_default:
            self._between_defaults.setdefault(identity.block_id, agreement)
        return agreement, self._between_defaults.get(identity.block_id)
