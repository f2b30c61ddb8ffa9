"""`tasker-worker`: parse, start, and say plainly what is wrong with what was asked."""

import sys

import click
import zmq

from tasker_zmq.errors import TaskerError
from tasker_zmq.worker.logs import FORMATS, LEVELS
from tasker_zmq.worker.pools import CONCURRENCY_MAX, EXECUTORS
from tasker_zmq.worker.start import WorkerOptions, run_worker

USAGE_EXIT_CODE = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option(
    "--commands",
    "commands_url",
    envvar="TASKER_COMMANDS",
    default="tcp://127.0.0.1:5557",
    show_default=True,
    show_envvar=True,
    help="Where the daemon takes commands; the rest is told at registration.",
)
@click.option("--name", help="The worker's lasting name  [default: TARGET@HOSTNAME]")
@click.option(
    "--concurrency",
    type=click.IntRange(1, CONCURRENCY_MAX),
    help="How many steps run at a time  [default: the pool's, else 4]",
)
@click.option(
    "--executor",
    type=click.Choice(EXECUTORS),
    help="Where handlers run  [default: the pool's, else thread]",
)
@click.option(
    "--environment",
    envvar="TASKER_ENV",
    show_envvar=True,
    help="Whose overrides of the templates apply  [default: the pool's, else development]",
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0, 86_400),
    default=30.0,
    show_default=True,
    help="How long a stopping worker lets running steps end.",
)
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@click.option("--log-format", type=click.Choice(FORMATS), default="text", show_default=True)
def worker(**options: object) -> None:
    """Run the steps of TARGET... for a daemon.

    TARGET is a module (shop.orders), a file (orders.py), or a pool (pools/orders.yaml: name,
    modules, files, templates, concurrency, executor, environment; its paths are relative to it).
    SIGTERM lets running steps end and gives the others back; a second one ends it at once.
    """
    try:
        sys.exit(run_worker(WorkerOptions(**options)))  # type: ignore[arg-type]
    except TaskerError as error:
        click.echo(f"tasker-worker: {error}", err=True)
        sys.exit(USAGE_EXIT_CODE)
    except zmq.ZMQError as error:
        click.echo(f"tasker-worker: --commands {options['commands_url']}: {error}", err=True)
        sys.exit(USAGE_EXIT_CODE)


def main() -> None:
    """Run the console script."""
    worker(prog_name="tasker-worker")
