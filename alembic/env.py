"""Runs the migrations: on the connection handed over, or on the database of the settings."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from alembic import context
from tasker_zmq.store.schema import is_ours
from tasker_zmq.store.tables import Base

LOCK_TIMEOUT = "2s"


@contextmanager
def connection() -> Iterator[Connection]:
    """The connection given in `config.attributes`, or one of our own to the configured database."""
    given = context.config.attributes.get("connection")
    if given is not None:
        yield given
        return
    from tasker_zmq.settings import load
    from tasker_zmq.store.provision import database_server

    settings = load(config=None, environment=None, variables=os.environ, overrides={}).settings
    with database_server(
        settings.database.url, data_dir=settings.database.data_dir, keep=True
    ) as server:
        engine = create_engine(server.url, poolclass=NullPool)
        with engine.begin() as own:
            yield own


with connection() as open_connection:
    if not context.config.attributes.get("compare_only"):
        open_connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    context.configure(
        connection=open_connection,
        target_metadata=Base.metadata,
        include_object=is_ours,
        compare_type=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()
