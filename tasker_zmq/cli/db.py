"""`tasker-zmq db`: bring the schema to where it should be, and tell where it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import click
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

from tasker_zmq.cli.database import engine_of, provided, read_clock
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_object, say
from tasker_zmq.errors import NotFoundError, SchemaVersionError
from tasker_zmq.store import schema
from tasker_zmq.store.connection import translated

MIGRATION_SECONDS_MAX: Final = 3_600.0
HEAD, BOTTOM = "head", "base"


@dataclass(frozen=True)
class _Place:
    """The database to migrate; `origin` says in words which one."""

    url: str
    origin: str
    engine: Engine

    def version(self) -> schema.SchemaVersion:
        with translated(), self.engine.connect() as connection:
            return schema.version(connection)


@contextmanager
def _place(invocation: Invocation, *, create: bool = False) -> Iterator[_Place]:
    settings = invocation.settings.database
    with (
        provided(settings, create=create) as server,
        engine_of(server, settings, seconds_max=MIGRATION_SECONDS_MAX) as engine,
    ):
        yield _Place(server.url, server.origin, engine)


@click.group()
def db() -> None:
    """Migrate and check the database's schema."""


@db.command()
@click.argument("revision", default=HEAD)
@output_option
@click.pass_obj
def upgrade(invocation: Invocation, *, revision: str, output: Output) -> None:
    """Bring the schema up to REVISION, by default the newest; safe to run again."""
    with _place(invocation, create=True) as place:
        before = place.version()
        with translated(), _revisions_known(revision):
            schema.upgrade(place.url, revision=revision)
        after = place.version()
        if after.current:
            with translated(), place.engine.begin() as connection:
                schema.ensure_partitions(connection, read_clock())
        _tell(place, before, after, output=output)


@db.command()
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
@click.pass_obj
def downgrade(invocation: Invocation, *, revision: str, yes: bool, output: Output) -> None:
    """Take the schema back to REVISION; `base` removes all of it, with everything in it."""
    with _place(invocation) as place:
        before = place.version()
        if not yes:
            with translated(), place.engine.connect() as connection:
                loss = _loss(connection) if revision == BOTTOM else ""
            click.confirm(
                f"take {place.origin} from {before.found} to {revision}{loss}?", abort=True
            )
        with translated(), _revisions_known(revision):
            schema.downgrade(place.url, revision=revision)
        _tell(place, before, place.version(), output=output)


def _loss(connection: Connection) -> str:
    if connection.execute(text("SELECT to_regclass('tasker_tasks')")).scalar() is None:
        return ""
    tasks = connection.execute(text("SELECT count(*) FROM tasker_tasks")).scalar_one()
    return f", which removes {tasks} tasks and everything about them"


@contextmanager
def _revisions_known(revision: str) -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise NotFoundError(
            f"no way leads to revision '{revision}' ({error}); this release knows up to "
            f"{schema.wanted_revision()}, and `{HEAD}` and `{BOTTOM}`"
        ) from None


def _tell(
    place: _Place, before: schema.SchemaVersion, after: schema.SchemaVersion, *, output: Output
) -> None:
    values = {"database": place.origin, "from": before.found, "to": after.found}
    print_object({**values, "newest": after.current}, output=output)


@db.command()
@output_option
@click.pass_obj
def current(invocation: Invocation, *, output: Output) -> None:
    """Tell which revision the database has, and which this program wants."""
    with _place(invocation) as place:
        found = place.version()
    values = {"database": place.origin, "found": found.found, "wanted": found.wanted}
    print_object({**values, "current": found.current}, output=output)


@db.command()
@output_option
@click.pass_obj
def check(invocation: Invocation, *, output: Output) -> None:
    """Compare the database with what this program expects of it; exit 1 if they differ."""
    with _place(invocation) as place, translated(), place.engine.connect() as connection:
        found = schema.version(connection)
        drift = schema.drift(connection) if found.current else []
        values = {"database": place.origin, "found": found.found, "wanted": found.wanted}
        print_object({**values, "differences": drift}, output=output)
        schema.refuse_unknown(connection)
    if drift:
        raise SchemaVersionError(
            f"the schema differs from what {found.wanted} means in {len(drift)} places; someone "
            "changed it by hand: undo that, or restore the database"
        )
    say("the schema is as it should be")
