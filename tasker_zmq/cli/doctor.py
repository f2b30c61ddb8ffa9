"""`tasker-zmq doctor`: everything that is needed, each OK or with the fix."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

import click
from rich.text import Text
from sqlalchemy import Connection

from tasker_zmq.cli.choosing import seconds
from tasker_zmq.cli.client import CommandClient, ask_health
from tasker_zmq.cli.database import (
    Database,
    QuestionTimedOutError,
    engine_of,
    opened,
    provided,
    read_clock,
)
from tasker_zmq.cli.drawing import page
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_rows, say
from tasker_zmq.errors import SchemaVersionError, TaskerError
from tasker_zmq.protocol.commands import HealthCheck
from tasker_zmq.settings import Settings
from tasker_zmq.store import schema
from tasker_zmq.store.reads import health as reads
from tasker_zmq.store.reads.invariants import INVARIANTS, Violation, violations
from tasker_zmq.store.reads.standing import live_sessions

POSTGRES_MIN: Final = 150_000
CLOCK_SECONDS_MAX: Final = 1.0
WEEKS_MIN: Final = 2
ASK_SECONDS_MAX: Final = 3.0
INVARIANT_SECONDS: Final = 60.0


class NotWellError(TaskerError):
    """Something that is needed is not as it should be."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `fix` is empty when it is well."""

    name: str
    found: str
    fix: str = ""

    @property
    def well(self) -> bool:
        return not self.fix


@click.command()
@click.option("--invariants", is_flag=True, help="Check what is stored against the invariants.")
@click.option(
    "--seconds",
    "limit",
    callback=seconds,
    metavar="DURATION",
    help=f"How long each invariant may take; {INVARIANT_SECONDS:g} s unless told.",
)
@output_option
@click.pass_obj
def doctor(
    invocation: Invocation, *, invariants: bool, limit: float | None, output: Output
) -> None:
    """Check database, schema, sockets and clocks: each is OK, or comes with the fix.

    With --invariants it only reads, works while the daemon does, and its exit code is 1 when an
    invariant is broken, or could not be checked in time.
    """
    if limit is not None and not (invariants and limit > 0):
        raise click.UsageError("--seconds bounds --invariants, and is above 0")
    if invariants:
        _check_invariants(invocation, limit or INVARIANT_SECONDS, output)
        return
    checks = [*_database_checks(invocation.settings), *_daemon_checks(invocation.settings)]
    if output is Output.JSON:
        print_json([{**asdict(each), "well": each.well} for each in checks])
    else:
        _print(checks)
    ill = [each.name for each in checks if not each.well]
    if ill:
        raise NotWellError(f"not well: {', '.join(ill)}")


def _print(checks: list[Check]) -> None:
    width = max(len(each.name) for each in checks)
    console = page()
    for each in checks:
        line = Text(f"{each.name.ljust(width)}  ")
        line.append("OK  " if each.well else "NO  ", style="green" if each.well else "bold red")
        line.append(each.found)
        console.print(line)
        if each.fix:
            console.print(Text(f"{' ' * width}      {each.fix}", style="yellow"))


def _check_invariants(invocation: Invocation, limit: float, output: Output) -> None:
    with opened(invocation, seconds_max=limit) as database:
        found = _examined(database)
    if output is Output.JSON:
        print_json(asdict(found))
    elif found.violations:
        rows = [asdict(each) for each in found.violations]
        print_rows(rows, ["invariant", "subject", "detail"], output=output)
    else:
        hold = "all of them hold" if found.checked else "none of them"
        click.echo(f"{len(found.checked)} invariants checked, {hold}")
    for name in found.unchecked:
        say(f"not checked: {name} took longer than {limit:g} s, or a table was locked")
    if found.unchecked:
        say("give it more with --seconds")
    if found.violations:
        say(f"{len(found.checked)} invariants checked")
        kinds = sorted({each.invariant for each in found.violations})
        raise NotWellError(f"broken: {', '.join(kinds)}; please report it with the rows above")
    if found.unchecked:
        raise NotWellError(f"not checked in time: {', '.join(found.unchecked)}")


@dataclass(frozen=True)
class Examined:
    """Names of the invariants that were and were not checked, and what breaks the former."""

    checked: list[str]
    violations: list[Violation]
    unchecked: list[str]


def _examined(database: Database) -> Examined:
    """A transaction for each: none of them keeps the server from cleaning up for longer."""
    found = Examined(checked=[], violations=[], unchecked=[])
    for invariant in INVARIANTS:
        try:
            with database.reading() as connection:
                found.violations.extend(violations(connection, invariant))
            found.checked.append(invariant.name)
        except QuestionTimedOutError:
            found.unchecked.append(invariant.name)
    return found


def _database_checks(settings: Settings) -> Iterator[Check]:
    """The database first: without it the rest of them is not looked at."""
    limit = settings.database.statement_timeout_seconds
    try:
        with (
            provided(settings.database) as server,
            engine_of(server, settings.database, seconds_max=limit) as engine,
        ):
            database = Database(engine, server.origin, seconds_max=limit)
            with database.reading() as connection:
                yield from _looked_at(connection, server.origin)
    except TaskerError as error:
        found, _, fix = str(error).partition("; ")
        yield Check("database", found, fix or "see above")


def _looked_at(connection: Connection, origin: str) -> Iterator[Check]:
    before = read_clock()
    facts = reads.server_facts(connection)
    after = read_clock()
    yield _server(facts, origin)
    yield _durability(facts)
    yield _clocks(facts.clock, before, after)
    try:
        schema.refuse_unknown(connection)
    except SchemaVersionError as error:
        found, _, fix = str(error).partition("; ")
        yield Check("schema", found, fix)
        return
    yield Check("schema", f"revision {schema.wanted_revision()}")
    yield _partitions(connection, after)
    yield _cores(connection, after)
    yield _workers(connection, after)


def _server(facts: reads.ServerFacts, origin: str) -> Check:
    version = f"{facts.version // 10_000}.{facts.version % 10_000}"
    found = f"{origin}, version {version}"
    if facts.version < POSTGRES_MIN:
        return Check("database", found, "upgrade it to PostgreSQL 15 or later")
    if facts.read_only:
        return Check("database", f"{found}, a read-only standby", "name its primary instead")
    return Check("database", found)


def _durability(facts: reads.ServerFacts) -> Check:
    """What is acknowledged must survive a power cut."""
    values = {
        "fsync": facts.fsync,
        "synchronous_commit": facts.synchronous_commit,
        "full_page_writes": facts.full_page_writes,
    }
    found = ", ".join(f"{name} {value}" for name, value in values.items())
    off = [name for name, value in values.items() if value == "off"]
    if not off:
        return Check("durability", found)
    fix = "; ".join(f"ALTER SYSTEM SET {name} = on" for name in off)
    return Check("durability", found, f"{fix}; SELECT pg_reload_conf()")


def _clocks(theirs: datetime, before: datetime, after: datetime) -> Check:
    ahead = (theirs - before - (after - before) / 2).total_seconds()
    found = f"the database's is {abs(ahead):.3f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    if abs(ahead) <= CLOCK_SECONDS_MAX:
        return Check("clocks", found)
    return Check("clocks", found, "let both machines keep time by NTP")


def _partitions(connection: Connection, now: datetime) -> Check:
    weeks = reads.weeks_ahead(connection, now=now)
    least = min(weeks.values())
    found = f"this week and {max(0, least - 1)} more are ready"
    if least >= WEEKS_MIN:
        return Check("partitions", found)
    missing = ", ".join(name for name, count in weeks.items() if count < WEEKS_MIN)
    found = f"{least} weeks are ready, {WEEKS_MIN} wanted, of {missing}"
    return Check("partitions", found, "run `tasker-zmq db upgrade`; a running daemon makes them")


def _cores(connection: Connection, now: datetime) -> Check:
    alive = [core["core_id"] for core in reads.cores(connection, now=now) if core["alive"]]
    found = (
        f"running on this database: {', '.join(alive)}" if alive else "none runs on this database"
    )
    return Check("daemons", found, "" if alive else "start one with `tasker-zmq daemon`")


def _workers(connection: Connection, now: datetime) -> Check:
    names = sorted({session.worker for session in live_sessions(connection, now=now)})
    found = f"connected: {', '.join(names)}" if names else "none is connected"
    return Check("workers", found, "" if names else "start one with `tasker-worker TARGET`")


def _daemon_checks(settings: Settings) -> Iterator[Check]:
    def commands() -> str:
        with CommandClient(settings.endpoints.commands) as client:
            client.ask("HealthCheck", HealthCheck(), timeout_seconds=ASK_SECONDS_MAX)
        return f"{settings.endpoints.commands} answers"

    def health() -> str:
        answer = ask_health(settings.endpoints.health, timeout_seconds=ASK_SECONDS_MAX)
        return f"{settings.endpoints.health} answers: {answer.get('status', 'ok')}"

    yield _tried("commands", commands)
    yield _tried("health", health)


def _tried(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, look())
    except TaskerError as error:
        found, _, fix = str(error).partition("; ")
        return Check(name, found, fix or "see its log")
