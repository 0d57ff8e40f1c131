"""What every display says of a simulated GPU."""

SIMULATED_NOTICE = "SIMULATED GPU"
SIMULATED_MEANING = "seconds and joules come from a physics model, not from a GPU"
BY_CONSTRUCTION = (
    "Simulated GPU: by construction, energy and latency depend only on the lengths of prompt and output. "
    "An apparent effect of another feature is an artefact of the physics model."
)
"""Stands beside what an input costs."""
