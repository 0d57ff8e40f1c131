"""What can be known before any engine is loaded: whether the boards can be set to what a sweep asks for.

Blocks and seats enter; nothing leaves, or one message with everything that is wrong.
"""

from collections.abc import Sequence

from runner.execution.cluster import Seat
from runner.hardware.gpu import NotSupportedError
from runner.hardware.operating_point import resolve_clocks
from runner.hardware.permission import denied
from runner.spec.trial import Block


def require_settable(blocks: Sequence[Block], seats: Sequence[Seat]) -> None:
    """Refuse a sweep that a board cannot be set to; one that asks for default clocks alone needs nothing.

    Raises: PermissionDeniedError: settings are not permitted on a board's host. NotSupportedError: a board lacks an
        axis. ValueError: a value lies outside a board's range.
    """
    points = dict.fromkeys(trial.point for block in blocks for trial in block.trials if not trial.point.is_default)
    if not points:
        return
    for seat in seats:
        if seat.obstacle is not None:
            raise denied(seat.obstacle, f"on {seat.host}")
    missing: dict[str, None] = {}
    wrong: dict[str, None] = {}
    for info in {seat.info.name: seat.info for seat in seats}.values():
        for point in points:
            try:
                resolve_clocks(info, point.sm_clock, point.mem_clock, point.power_limit)
            except NotSupportedError as error:
                missing[str(error)] = None
            except ValueError as error:
                wrong[str(error)] = None
    if wrong:
        raise ValueError("\n".join((*wrong, *missing)))
    if missing:
        raise NotSupportedError("\n".join(missing))
