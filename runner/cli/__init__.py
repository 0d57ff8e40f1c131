"""The command `sweep`: the only place where the parts are put together.

Nothing heavy is imported until a command needs it, so that `sweep --help` answers at once.
"""

import typer

from runner.cli.machine import doctor, tasks
from runner.cli.report import import_table, report
from runner.cli.run import plan, run, watch

__all__ = ["app", "main"]

app = typer.Typer(
    help="What does a token cost in joules, seconds and quality, at every clock the GPU can run?",
    epilog="Start with: sweep run sweeps/demo.toml   (no GPU needed; then: sweep report runs/demo)",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # its help imports rich and markdown, which takes longer than all the rest
    pretty_exceptions_enable=False,
)
for command in (run, plan, watch, report, doctor, tasks):
    app.command()(command)
app.command(name="import")(import_table)


def main() -> None:
    """Run the command line."""
    app()
