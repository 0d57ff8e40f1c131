"""Joulesweep: what a token costs in joules, seconds and quality, at every clock the GPU can run.

    from runner import load_sweep, plan_sweep, run_sweep, open_run

The four functions are imported when they are first used, so that `import runner` costs nothing. docs/python.md shows a
study with them.
"""

from typing import TYPE_CHECKING, Any

from runner.version import __version__

if TYPE_CHECKING:
    from runner.api import Run, load_sweep, open_run, plan_sweep, run_sweep

__all__ = ["Run", "__version__", "load_sweep", "open_run", "plan_sweep", "run_sweep"]


def __getattr__(name: str) -> Any:
    """Import a name of the interface when it is first asked for."""
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runner import api

    return getattr(api, name)
