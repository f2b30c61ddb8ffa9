"""Where the database comes from: the one that was named, or a PostgreSQL of our own."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from tasker_zmq.errors import SettingsError
from tasker_zmq.store.embedded import POSTGRES_MAJOR, embedded_postgres

DRIVER = "postgresql+psycopg"
ACCEPTED = ("postgres", "postgresql", DRIVER)


@dataclass(frozen=True, kw_only=True)
class DatabaseServer:
    """A database that can be connected to; `origin` says in words which one, without secrets."""

    url: str
    origin: str


@contextmanager
def database_server(
    url: str | None, *, data_dir: Path, keep: bool, durable: bool = True
) -> Iterator[DatabaseServer]:
    """The database at `url`; without one an embedded PostgreSQL, whose folder is `data_dir`.

    Several processes may ask for one folder; the last one to leave stops the server, and removes
    the folder unless `keep`. Without `durable` a power cut may cost everything (tests only).
    Raises SettingsError for a URL of another kind, UnreachableError when nothing can be started.
    """
    if url is not None:
        yield DatabaseServer(url=normalise_url(url), origin=_described(url))
        return
    with embedded_postgres(data_dir, keep=keep, durable=durable) as embedded_url:
        origin = f"embedded PostgreSQL {POSTGRES_MAJOR} in {data_dir}"
        yield DatabaseServer(url=embedded_url, origin=origin)


def normalise_url(url: str) -> str:
    """`url` for the driver that we speak through, `postgresql+psycopg://...`; or SettingsError."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        raise SettingsError(
            "wanted a database URL like 'postgresql://user@host:5432/name'; "
            "what was given has no '://'"
        )
    if scheme not in ACCEPTED:
        near = difflib.get_close_matches(scheme, ACCEPTED, n=1)
        meant = f"did you mean '{near[0]}://'?" if near else "use 'postgresql://'"
        raise SettingsError(
            f"the database URL begins with '{scheme}://'; only PostgreSQL will do; {meant}"
        )
    normalised = f"{DRIVER}://{rest}"
    try:
        make_url(normalised)
    except (ArgumentError, ValueError):
        # The URL itself is left out: a password may stand in it.
        raise SettingsError(
            "the database URL cannot be read; wanted 'postgresql://user:password@host:5432/name', "
            "with special characters in the password percent-encoded"
        ) from None
    return normalised


def _described(url: str) -> str:
    parts = make_url(normalise_url(url))
    host = parts.host or parts.query.get("host") or "the local socket"
    port = f":{parts.port}" if parts.port else ""
    return f"PostgreSQL database '{parts.database or parts.username or ''}' at {host}{port}"
