"""Where `demo` and `chaos` work: a private folder, sockets in it, a database of their own."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.demonstration.programs import Program, last_words
from tasker_zmq.errors import RefusedError, UnreachableError
from tasker_zmq.protocol.commands import HealthCheck
from tasker_zmq.store.provision import DatabaseServer, database_server

ENVIRONMENT: Final = "development"
ASK_SECONDS_MAX: Final = 1.0
SOCKET_PATH_BYTES_MAX: Final = 100  # the kernels allow 103 (macOS) and 107 (Linux)
PURPOSES: Final = ("steps", "results", "commands", "health")
OURS: Final = ("TASKER_", "DATABASE_URL")  # the user's settings are not for what we start
Tell = Callable[[str], None]


def without_settings(variables: Mapping[str, str]) -> dict[str, str]:
    """`variables` without those that would configure a daemon or a worker."""
    return {name: value for name, value in variables.items() if not name.startswith(OURS)}


def endpoints_in(folder: Path) -> dict[str, str]:
    """An ipc endpoint for each purpose; RefusedError where the paths are too long for sockets."""
    longest = max(len(os.fsencode(folder / purpose)) for purpose in PURPOSES)
    if longest > SOCKET_PATH_BYTES_MAX:
        raise RefusedError(
            f"the sockets in {folder} would have names of {longest} bytes, at most "
            f"{SOCKET_PATH_BYTES_MAX} are possible; set TMPDIR to a shorter folder"
        )
    return {purpose: f"ipc://{folder / purpose}" for purpose in PURPOSES}


def private_folder(keep: Path | None, otherwise: Path) -> Path:
    """The folder to keep, made if need be; RefusedError if something is in it already."""
    if keep is None:
        return otherwise
    folder = keep.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RefusedError(f"--keep wants a new or an empty folder, and {folder} is neither")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def own_database(
    url: str | None, *, place: Path, name: str, keep: bool
) -> Iterator[DatabaseServer]:
    """An embedded server in `place`; with a URL a new database `name` on that server."""
    with database_server(url, data_dir=place, keep=keep) as server:
        if url is None:
            yield server
            return
        own_url = make_url(server.url).set(database=name).render_as_string(hide_password=False)
        _execute(server, f'CREATE DATABASE "{name}"')
        try:
            origin = f"a database of its own, {name}, beside {server.origin}"
            yield DatabaseServer(url=own_url, origin=origin)
        finally:
            _execute(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _execute(server: DatabaseServer, statement: str) -> None:
    engine = create_engine(server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    except SQLAlchemyError as error:
        raise UnreachableError(
            f"`{statement}` failed on {server.origin}: {getattr(error, 'orig', None) or error}; "
            "unset TASKER_DATABASE_URL to use an embedded PostgreSQL"
        ) from None


def daemon_answers(commands: str) -> bool:
    """Whether a daemon takes commands there."""
    try:
        with CommandClient(commands) as client:
            client.ask("HealthCheck", HealthCheck(), timeout_seconds=ASK_SECONDS_MAX)
    except UnreachableError:
        return False
    return True


def tell_last_words(programs: Sequence[Program], *, kept_by: str | None, tell: Tell) -> None:
    """The ends of all logs, and how to keep them; `kept_by` is None where they stay."""
    for each in programs:
        tell(f"the last lines of {each.log}:")
        for line in last_words(each):
            tell(f"  {line}")
    if kept_by is not None:
        tell(f"these logs go with the private folder; `{kept_by}` keeps them")
