"""The metrics of a task, read from its YAML before its data and lm-evaluation-harness are loaded.

A YAML enters; the names that `quality_metric` may take leave.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from runner.spec.problems import did_you_mean

_NO_FILTER = "none"
"""The harness's name for the filter of a task that names no filter of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricNames:
    """A task's metrics, and the filters that its answers may pass before they are scored. The first are the default."""

    metrics: tuple[str, ...]
    filters: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the names in a task's YAML; None if Python code or a default of the harness decides."""
        config = _read_config(path)
        metrics = [entry.get("metric") for entry in config.get("metric_list") or []]
        if not metrics or "class" in config or not all(isinstance(metric, str) for metric in metrics):
            return None
        filters = tuple(entry["name"] for entry in config.get("filter_list") or [])
        return cls(metrics=tuple(metrics), filters=filters or (_NO_FILTER,))

    def find(self, wanted: str) -> tuple[str, str] | None:
        """Return metric and filter of "METRIC" or "METRIC,FILTER"; None if the task lacks one of them."""
        metric, _, filter_name = wanted.partition(",")
        filter_name = filter_name or self.filters[0]
        return (metric, filter_name) if metric in self.metrics and filter_name in self.filters else None

    def describe(self, wanted: str) -> str:
        """Return the names as a text, and a guess at the one that was meant."""
        has = ", ".join(self.metrics) + (f" (filters: {', '.join(self.filters)})" if len(self.filters) > 1 else "")
        pairs = [f"{metric},{name}" for metric in self.metrics for name in self.filters]
        return has + did_you_mean(wanted, pairs if "," in wanted else self.metrics)


def _read_config(path: Path) -> dict[str, Any]:
    """Return a task's YAML with what it includes. A value that is Python code becomes None."""
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        pass

    Loader.add_constructor("!function", lambda *_: None)
    own: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    included = own.pop("include", [])
    config: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else included:
        config |= _read_config(path.parent / name)
    return config | own
