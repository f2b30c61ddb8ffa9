"""`tasker-zmq chaos`: real processes under load, killed, paused, stopped and cut off by chance."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from tasker_zmq.cli.chaotic.performance import Show, perform
from tasker_zmq.cli.chaotic.progress import shown_progress
from tasker_zmq.cli.chaotic.report import as_object, print_page
from tasker_zmq.cli.chaotic.stage import Plan
from tasker_zmq.cli.demonstration.interruption import interruptible
from tasker_zmq.cli.demonstration.premises import without_settings
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json
from tasker_zmq.clock import SystemClock, system_dice
from tasker_zmq.errors import SettingsError, TaskerError
from tasker_zmq.settings.environment import process_variables

MINUTES_MIN: Final = 0.1
MINUTES_MAX: Final = 24 * 60.0
WORKERS_MAX: Final = 32
SEED_MAX: Final = 1_000_000
DEFAULT_DEAD_SECONDS: Final = 10.0  # of heartbeat.dead_seconds
SHORT_BELOW_MINUTES: Final = 5.0
SHORT_DEAD_SECONDS: Final = 3.0
# With the defaults a minute would be spent waiting for leases to end.
SHORT_LEASES: Final[Mapping[str, str]] = {
    "TASKER_HEARTBEAT_INTERVAL_SECONDS": "500ms",
    "TASKER_HEARTBEAT_SUSPECT_SECONDS": "1500ms",
    "TASKER_HEARTBEAT_DEAD_SECONDS": "3s",
    "TASKER_HEARTBEAT_CORE_LEASE_SECONDS": "2s",
}
DRAIN: Final = {"TASKER_DRAIN_GRACE_SECONDS": "2s"}


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(MINUTES_MIN, MINUTES_MAX),
    default=1.0,
    show_default=True,
    help="How long faults and load go on; what is open then is waited for.",
)
@click.option("--seed", type=int, help="The same seed, the same faults. [default: by chance]")
@click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    default=3,
    show_default=True,
    help="How many worker processes, of 4 threads each.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 1_000.0),
    default=6.0,
    show_default=True,
    help="How many tasks are submitted a second, of 2 to 10 steps.",
)
@click.option(
    "--on-configured-database",
    "on_configured",
    is_flag=True,
    help="Use a new database on the configured PostgreSQL, which is itself left in peace.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the database, the logs and what the steps wrote there.",
)
@output_option
@click.pass_obj
def chaos(
    invocation: Invocation,
    *,
    minutes: float,
    seed: int | None,
    workers: int,
    rate: float,
    on_configured: bool,
    keep: Path | None,
    output: Output,
) -> None:
    """Kill, pause, stop and cut off real processes under load, and count what was lost.

    A database, a daemon and workers are started in a private folder. The steps write down each of
    their runs themselves; at the end that is compared with what the daemon recorded. Exit code 0
    means: nothing lost, nothing applied twice, every invariant holds.
    """
    settings = {**DRAIN, **(SHORT_LEASES if minutes < SHORT_BELOW_MINUTES else {})}
    plan = Plan(
        variables=without_settings(process_variables()),
        settings=settings,
        workers=workers,
        database_url=_configured(invocation) if on_configured else None,
        keep=keep,
    )
    drawn = system_dice().randrange(SEED_MAX) if seed is None else seed
    _run(plan, seed=drawn, seconds=minutes * 60, rate=rate, output=output)


def _configured(invocation: Invocation) -> str:
    url = invocation.settings.database.url
    if url is None:
        raise SettingsError(
            "--on-configured-database wants a database URL, and none is set; "
            "set TASKER_DATABASE_URL, or leave the flag out for an embedded PostgreSQL"
        )
    return url


def _run(plan: Plan, *, seed: int, seconds: float, rate: float, output: Output) -> None:
    clock = SystemClock()
    short = SHORT_LEASES.items() <= plan.settings.items()
    with interruptible(clock) as interruption, shown_progress(clock) as progress:
        show = Show(
            plan=plan,
            seed=seed,
            seconds=seconds,
            tasks_per_second=rate,
            dead_seconds=SHORT_DEAD_SECONDS if short else DEFAULT_DEAD_SECONDS,
            clock=clock,
            interruption=interruption,
            progress=progress,
        )
        progress.tell(f"seed {seed}; {_leases(short=short)}")
        try:
            outcome = perform(show)
        except SystemExit:
            progress.tell("stopped; what was started is gone")
            raise
    if output is Output.JSON:
        print_json(as_object(outcome, show))
    else:
        print_page(outcome, show)
    if not outcome.verdict.is_good:
        raise TaskerError(f"not everything held; `tasker-zmq chaos --seed {seed}` draws it again")


def _leases(*, short: bool) -> str:
    if not short:
        return "leases are the defaults"
    return (
        f"leases are short, as the run is: a worker is dead after {SHORT_DEAD_SECONDS:.0f} s of "
        f"silence, not {DEFAULT_DEAD_SECONDS:.0f} (--minutes {SHORT_BELOW_MINUTES:.0f} keeps the "
        "defaults)"
    )
