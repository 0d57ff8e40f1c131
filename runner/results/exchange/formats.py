"""The formats of other tools that a run can be written in."""

from typing import Literal

ExportFormat = Literal["vllm-bench", "mlenergy", "inferencex"]
"""vllm-bench: `vllm bench serve` and `vllm bench sweep`. mlenergy: the ML.ENERGY benchmark, version 3. inferencex:
InferenceX's aggregates."""
