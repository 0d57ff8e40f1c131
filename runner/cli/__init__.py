"""The command `sweep`: the only place where the parts are put together.

Nothing heavy is imported until a command needs it, so that `sweep --help` answers at once.
"""

from collections.abc import Callable
from typing import Annotated

import typer

from runner.cli.exchange import export, import_table
from runner.cli.machine import doctor, tasks
from runner.cli.report import report
from runner.cli.run import plan, run, watch
from runner.version import __version__

__all__ = ["app", "main"]

app = typer.Typer(
    help="What does a token cost in joules, seconds and quality, at every clock the GPU can run?",
    epilog="Start with: sweep run sweeps/demo.toml   (no GPU needed; then: sweep report runs/demo)\n\n"
    "Exit codes: 0 done, 1 some trials failed, 2 the sweep file or the command is wrong, 3 the machine cannot do it.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # its help imports rich and markdown, which takes longer than all the rest
    pretty_exceptions_enable=False,
)
# In the list of commands: a line of 80 columns holds no more than this.
_IN_SHORT: dict[Callable[..., None], str] = {
    run: "Run a sweep, or resume it.",
    plan: "What would run, for how long, at what energy; sets nothing.",
    watch: "The dashboard of a run in another terminal.",
    report: "Which clock to set, what it saves, and all that was found.",
    doctor: "Can this machine measure, can it set clocks, what is missing?",
    tasks: "The tasks that a sweep file may name.",
}
for command, in_short in _IN_SHORT.items():
    app.command(short_help=in_short)(command)
app.command(name="import", short_help="Results of others, made into a run that report reads.")(import_table)
app.command(short_help="A run in the format of vLLM, ML.ENERGY or InferenceX.")(export)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"joulesweep {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """What does a token cost in joules, seconds and quality, at every clock the GPU can run?"""


def main() -> None:
    """Run the command line."""
    app()
