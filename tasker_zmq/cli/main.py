"""`tasker-zmq`: global options, and subcommands that are imported only when one is used."""

import difflib
import gc
import importlib
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final, NoReturn

import click

from tasker_zmq.cli.failures import run
from tasker_zmq.cli.invocation import Invocation


@dataclass(frozen=True)
class Subcommand:
    """Where a subcommand lives, and its line in the help: neither needs its import."""

    target: str  # module, colon, attribute
    summary: str

    def load(self) -> click.Command:
        module, _, attribute = self.target.partition(":")
        command = getattr(_imported(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.target} is no click command")
        return command


def _imported(name: str) -> ModuleType:
    """A module whose import is not interrupted: to look for garbage is a tenth of it, in vain."""
    if name not in sys.modules:
        gc.disable()
        try:
            importlib.import_module(name)
            gc.freeze()  # and no collection looks at it ever after
        finally:
            gc.enable()
    return sys.modules[name]


SUBCOMMANDS: Final[Mapping[str, Subcommand]] = {
    "daemon": Subcommand("tasker_zmq.cli.daemon:daemon", "Run the daemon in the foreground."),
    "run": Subcommand("tasker_zmq.cli.daemon:daemon", "The same as daemon."),
    "demo": Subcommand(
        "tasker_zmq.cli.demo:demo", "Run an order fulfilment from end to end, and clean up."
    ),
    "chaos": Subcommand(
        "tasker_zmq.cli.chaos:chaos", "Kill and cut off real processes under load; count losses."
    ),
    "bench": Subcommand(
        "tasker_zmq.cli.bench:bench", "Measure how fast it is here, and what it costs."
    ),
    "tasks": Subcommand(
        "tasker_zmq.cli.tasks:tasks", "Submit, list, show, watch and control tasks."
    ),
    "steps": Subcommand(
        "tasker_zmq.cli.steps:steps",
        "Show steps with their attempts and results; decide about them.",
    ),
    "dlq": Subcommand("tasker_zmq.cli.dlq:dlq", "See and decide what nobody tries again."),
    "batches": Subcommand("tasker_zmq.cli.batches:batches", "List and show batches of steps."),
    "ledger": Subcommand("tasker_zmq.cli.ledger:ledger", "Read every message as it was received."),
    "workers": Subcommand("tasker_zmq.cli.workers:workers", "List the workers and how they are."),
    "commands": Subcommand(
        "tasker_zmq.cli.commands:commands", "See what was asked and answered; ask, and ask again."
    ),
    "workflows": Subcommand(
        "tasker_zmq.cli.workflows:workflows", "Validate, publish, list and draw workflows."
    ),
    "db": Subcommand("tasker_zmq.cli.db:db", "Migrate and check the database's schema."),
    "config": Subcommand("tasker_zmq.cli.config:config", "Show, check and explain the settings."),
    "doctor": Subcommand(
        "tasker_zmq.cli.doctor:doctor", "Check what is needed, with the fix for what is not."
    ),
    "cores": Subcommand(
        "tasker_zmq.cli.cores:cores", "List daemons, their locks, and tasks that are ready."
    ),
    "analytics": Subcommand(
        "tasker_zmq.cli.analytics:analytics", "Tell how tasks, workers and commands fared."
    ),
    "health": Subcommand("tasker_zmq.cli.health:health", "Ask a running daemon how it is."),
}


class LazyGroup(click.Group):
    """A group that knows its subcommands' names and help before it imports any of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = SUBCOMMANDS.get(cmd_name)
        return None if known is None else known.load()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            close = difflib.get_close_matches(name, known, n=1)
            way_out = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known)}"
            ctx.fail(f"unknown command '{name}'; {way_out}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(n, SUBCOMMANDS[n].summary) for n in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Settings file. [default: TASKER_CONFIG, else config/tasker.yaml]",
)
@click.option("--env", "environment", help="Environment. [default: TASKER_ENV, else development]")
@click.option("--database", metavar="URL", help="PostgreSQL to use. [default: TASKER_DATABASE_URL]")
@click.version_option(package_name="tasker-zmq")
@click.pass_context
def tasker_zmq(
    ctx: click.Context, config_file: Path | None, environment: str | None, database: str | None
) -> None:
    """Run workflows whose every step and message is kept in PostgreSQL."""
    ctx.obj = Invocation(
        config=config_file, environment=environment, overrides={"database.url": database}
    )


def main() -> NoReturn:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a narrow terminal encoding is no failure
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(tasker_zmq, sys.argv[1:], program="tasker-zmq"))


if __name__ == "__main__":
    main()
