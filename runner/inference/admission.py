"""How many requests an engine may be handed now.

The vLLM engine and the simulated engine ask the same object.
"""

from runner.spec.load import Load


class Admission:
    """Decides how many requests of one run may be handed in. A closed loop asks only how many are in flight."""

    def __init__(self, load: Load) -> None:
        self._concurrency = load.concurrency

    def num_admissible(self, num_in_flight: int) -> int:
        """Return how many requests may be handed in now, beside those in flight; 0 or less for none."""
        return self._concurrency - num_in_flight
