"""Which schema the database has, which this program knows, and the way from one to the other.

Alembic is imported by who goes that way: a daemon that starts only asks where it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from tasker_zmq.errors import SchemaVersionError
from tasker_zmq.store.tables import Base

if TYPE_CHECKING:
    from alembic.config import Config

PARTITIONED = ("tasker_step_execution_batch_received_results", "tasker_worker_command_audit")
WEEKS_AHEAD = 4
MIGRATION_LOCK = 128_006_194  # any number nobody else uses


@dataclass(frozen=True)
class SchemaVersion:
    """Revisions; `found` is None for a database without our schema."""

    found: str | None
    wanted: str

    @property
    def current(self) -> bool:
        return self.found == self.wanted


def migrations_folder() -> Path:
    """The migrations: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "alembic"


def known_revisions() -> tuple[str, ...]:
    """What this program brings, oldest first: the numbers that its migrations' names begin with."""
    files = (migrations_folder() / "versions").glob("[0-9]*_*.py")
    return tuple(sorted(file.name.partition("_")[0] for file in files))


def wanted_revision() -> str:
    """The newest revision that this program brings."""
    known = known_revisions()
    if not known:
        raise SchemaVersionError(
            f"no migrations found in {migrations_folder()}; reinstall tasker-zmq"
        )
    return known[-1]


def version(connection: Connection) -> SchemaVersion:
    found = None
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is not None:
        rows = connection.execute(text("SELECT version_num FROM alembic_version"))
        found = rows.scalar_one_or_none()
    return SchemaVersion(found=found, wanted=wanted_revision())


def refuse_unknown(connection: Connection) -> None:
    """Raise SchemaVersionError unless the schema is the one that this program knows."""
    state = version(connection)
    if state.current:
        return
    if state.found is None:
        raise SchemaVersionError(
            f"the database has no tasker-zmq schema (wanted {state.wanted}); "
            "run `tasker-zmq db upgrade`"
        )
    if state.found in known_revisions():
        raise SchemaVersionError(
            f"the database's schema is {state.found}, older than {state.wanted}; "
            "run `tasker-zmq db upgrade`"
        )
    raise SchemaVersionError(
        f"the database's schema is {state.found}, which this release does not know (it knows up "
        f"to {state.wanted}); run the newer tasker-zmq that migrated it"
    )


def _config(connection: Connection) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(url: str, *, revision: str = "head") -> None:
    """Bring the database to `revision`; safe to run twice, and from two processes at once."""
    from alembic import command

    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            command.upgrade(_config(connection), revision)
    finally:
        engine.dispose()


def downgrade(url: str, *, revision: str) -> None:
    """Take the database back to `revision` (`base` removes everything)."""
    from alembic import command

    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            command.downgrade(_config(connection), revision)
    finally:
        engine.dispose()


def is_ours(*described: Any) -> bool:
    """Whether a comparison looks at an object: partitions come and go and are not the schema.

    Alembic's `include_object`: the object, its name, its kind, whether it was found in the
    database, and what the mapped classes have for it.
    """
    _, name, kind, reflected, counterpart = described
    is_partition = kind == "table" and reflected and counterpart is None and "_p2" in (name or "")
    return not is_partition


def drift(connection: Connection) -> list[str]:
    """Where the database differs from the mapped classes, one line each; empty when nowhere."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "include_object": is_ours,
        },
    )
    return [str(difference) for difference in compare_metadata(context, Base.metadata)]


def ensure_partitions(connection: Connection, around: object) -> int:
    """Make the weekly partitions from last week to four weeks ahead; returns how many it made."""
    statement = text("SELECT tasker_ensure_partitions(:parent, :around, CAST(:ahead AS integer))")
    return sum(
        connection.execute(
            statement, {"parent": parent, "around": around, "ahead": WEEKS_AHEAD}
        ).scalar_one()
        for parent in PARTITIONED
    )
