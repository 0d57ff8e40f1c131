"""Exit codes, and errors made into one message that says what to do."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

EXIT_FAILED_TRIALS = 1
EXIT_WRONG_INPUT = 2
EXIT_WRONG_MACHINE = 3
EXIT_INTERRUPTED = 130


@contextmanager
def explained_errors() -> Iterator[None]:
    """Turn errors that a person can do something about into one message and the contract's exit code."""
    from runner.execution.driver.cluster import ClusterError
    from runner.execution.preflight.model_access import ModelAccessError
    from runner.hardware.gpu import GpuError
    from runner.results.run_directory import RunDirectoryError
    from runner.spec.sweep import SweepFileError
    from runner.tasks.task import TaskError

    try:
        yield
    except (SweepFileError, TaskError, RunDirectoryError) as error:
        _fail(str(error), EXIT_WRONG_INPUT)
    except (GpuError, ClusterError, ModelAccessError, OSError) as error:
        _fail(str(error), EXIT_WRONG_MACHINE)
    except ValueError as error:
        _fail(str(error), EXIT_WRONG_INPUT)


def _fail(message: str, exit_code: int) -> NoReturn:
    print(f"sweep: {message}", file=sys.stderr)
    raise typer.Exit(exit_code)
