"""Exit codes, and errors made into one message that says what to do."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

EXIT_FAILED_TRIALS = 1
EXIT_WRONG_INPUT = 2
EXIT_WRONG_MACHINE = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""What a shell reports of a program that SIGPIPE ended."""


@contextmanager
def explained_errors() -> Iterator[None]:
    """Turn errors that a person can do something about into one message and the contract's exit code."""
    from runner.execution.driver.cluster import ClusterError
    from runner.execution.preflight.model_access import ModelAccessError
    from runner.hardware.gpu import GpuError
    from runner.inference.engine import EngineError
    from runner.results.run_directory import RunDirectoryError
    from runner.spec.sweep import SweepFileError
    from runner.tasks.task import TaskError

    try:
        yield
    except (SweepFileError, TaskError, RunDirectoryError) as error:
        _fail(str(error), EXIT_WRONG_INPUT)
    except (GpuError, EngineError, ClusterError, ModelAccessError, OSError) as error:
        _fail(str(error), EXIT_WRONG_MACHINE)
    except ValueError as error:
        _fail(str(error), EXIT_WRONG_INPUT)


@contextmanager
def quiet_broken_pipe() -> Iterator[None]:
    """End without a message when the reader of standard output has gone, as in `sweep tasks --all | head`."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output once more when it ends, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_BROKEN_PIPE) from None


def _fail(message: str, exit_code: int) -> NoReturn:
    print(f"sweep: {message}", file=sys.stderr)
    raise typer.Exit(exit_code)
