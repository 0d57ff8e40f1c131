"""Are the outputs at a clock those of the default clock? Where they are not, something else than the clock has changed.

Completions of a trial's first round enter, the share of them that are identical leaves. Batches fall differently each
time, and rounding with them: so the same share between two default-clock trials stands beside it.
"""

from collections.abc import Iterable, Mapping

from runner.results.measurement import Identity
from runner.spec.request import Completion


class OutputAgreement:
    """Holds each block's outputs at the default clock, of the first trial there, against those of later trials."""

    def __init__(self) -> None:
        self._reference: dict[str, Mapping[str, object]] = {}
        self._between_defaults: dict[str, float] = {}

    def remember(self, block_id: str, outputs: Mapping[str, object]) -> None:
        """Take a block's reference: by request_id, the text or the token ids of each output."""
        self._reference[block_id] = outputs

    def compare(self, identity: Identity, completions: Iterable[Completion]) -> tuple[float | None, float | None]:
        """Return the share of outputs identical to the reference, and that share between two default-clock trials.

        The first default-clock trial of a block becomes its reference. None: there is nothing to compare (yet).
        """
        outputs: dict[str, object] = {
            c.row_id: c.text if c.text is not None else c.output_token_ids
            for c in completions
            if c.kind == "generate" and c.error is None and (c.text is not None or c.output_token_ids)
        }
        if not outputs:
            return None, None
        is_default = (
            identity.sm_clock_mhz_requested is None
            and identity.mem_clock_mhz_requested is None
            and identity.power_limit_w_requested is None
        )
        reference = self._reference.get(identity.block_id)
        if reference is None:
            if is_default:
                self.remember(identity.block_id, outputs)
            return None, None
        common = outputs.keys() & reference.keys()
        if not common:
            return None, None
        agreement = sum(outputs[key] == reference[key] for key in common) / len(common)
        if is_default:
            self._between_defaults.setdefault(identity.block_id, agreement)
        return agreement, self._between_defaults.get(identity.block_id)
