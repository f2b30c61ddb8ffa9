"""`tasker-worker`: the settings and what to run; the worker does the rest."""

import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from tasker_zmq.cli.failures import run
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.settings import CATALOGUE, ExecutorKind, LogFormat, LogLevel
from tasker_zmq.worker.start import WorkerOptions, run_worker

# Who speaks for this one process outranks the pool's file; the settings file does not.
_INSISTING: Final = ("flag", "--", "TASKER_")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--name", help="The worker's lasting name  [default: TARGET@HOSTNAME]")
@click.option(
    "--commands",
    metavar="ENDPOINT[,...]",
    help="Where daemons of one database take commands; they tell the rest, and of each other"
    "  [default: worker.commands]",
)
@click.option(
    "--concurrency",
    metavar="NUMBER",
    help="How many steps run at a time  [default: the pool's, else worker.concurrency]",
)
@click.option(
    "--executor",
    type=click.Choice([each.value for each in ExecutorKind]),
    help="Where handlers run  [default: the pool's, else worker.executor]",
)
@click.option(
    "--drain-seconds",
    metavar="DURATION",
    help="How long a stopping worker lets running steps end  [default: worker.drain_seconds]",
)
@click.option(
    "--outbox",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep unrecorded results in this file, so that they outlive the process",
)
@click.option(
    "--exclusive",
    is_flag=True,
    help="Take steps of the targets' own workflows and of no others, whatever their handlers",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Settings file. [default: TASKER_CONFIG, else config/tasker.yaml]",
)
@click.option(
    "--env",
    "--environment",
    "environment",
    help="Whose overrides apply  [default: TASKER_ENV, else the pool's, else development]",
)
@click.option("--log-level", type=click.Choice([each.value for each in LogLevel]))
@click.option("--log-format", type=click.Choice([each.value for each in LogFormat]))
@click.version_option(package_name="tasker-zmq")
def worker(
    targets: tuple[str, ...],
    *,
    name: str | None,
    outbox: Path | None,
    exclusive: bool,
    config: Path | None,
    environment: str | None,
    **flags: str | None,
) -> int:
    """Run the steps of TARGET... for a daemon.

    TARGET is a module (shop.orders), a file (orders.py), or a pool (pools/orders.yaml: name,
    modules, files, templates, tasks, exclusive, concurrency, executor, environment; its paths are
    relative to it).
    SIGTERM lets running steps end and gives the others back; a second one ends it at once.
    """
    overrides = {_key_of(flag): value for flag, value in flags.items()}
    loaded = Invocation(config=config, environment=environment, overrides=overrides).loaded
    insisted = frozenset(
        setting.key for setting in CATALOGUE if loaded.origins[setting.key].startswith(_INSISTING)
    )
    return run_worker(
        WorkerOptions(
            targets=targets,
            settings=loaded.settings,
            insisted=insisted,
            name=name,
            outbox=outbox,
            exclusive=exclusive,
        )
    )


def _key_of(flag: str) -> str:
    return flag.replace("_", ".", 1) if flag.startswith("log_") else f"worker.{flag}"


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(worker, sys.argv[1:], program="tasker-worker"))


if __name__ == "__main__":
    main()
