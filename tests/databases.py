"""Which PostgreSQL the tests use, and how a test gets a database of its own there."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tasker_zmq.store.embedded import POSTGRES_MAJOR
from tasker_zmq.store.provision import database_server, normalise_url

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "postgres:17"  # the one of docker-compose.yml
ENGINE_SECONDS_MAX = 10
COMPOSE_SECONDS_MAX = 600
KINDS = ("docker", "embedded")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`kind` is url, docker or embedded; `why` is for the person who reads the report."""

    kind: str
    why: str
    url: str | None = None

    def __str__(self) -> str:
        what = {
            "url": "the server of TASKER_TEST_DATABASE_URL",
            "docker": f"{IMAGE} of docker-compose.yml",
            "embedded": f"embedded PostgreSQL {POSTGRES_MAJOR} in a temporary folder",
        }[self.kind]
        return f"{what} ({self.why})"


def choose(variables: Mapping[str, str]) -> Choice:
    """The server that `variables` ask for; without a word Docker if it is ready, else embedded."""
    url = variables.get("TASKER_TEST_DATABASE_URL")
    asked = variables.get("DB", "")
    if url:
        return Choice(kind="url", why="it is set", url=normalise_url(url))
    if asked in KINDS:
        return Choice(kind=asked, why=f"DB={asked}")
    if asked:
        raise pytest.UsageError(f"wanted DB=docker or DB=embedded, found DB={asked}")
    if _docker_says("compose", "version") and _docker_says("image", "inspect", IMAGE):
        return Choice(kind="docker", why="a Docker engine answers and has the image")
    return Choice(kind="embedded", why="no Docker engine with the image answers; DB= chooses")


def _docker_says(*arguments: str) -> bool:
    program = shutil.which("docker")
    if program is None:
        return False
    try:
        finished = subprocess.run(
            [program, *arguments],
            check=False,
            capture_output=True,
            timeout=ENGINE_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        return False
    return finished.returncode == 0


@contextmanager
def running(choice: Choice) -> Iterator[str]:
    """The URL of a database from which others can be made; what was started is gone afterwards."""
    with ExitStack() as stack:
        if choice.kind == "docker":
            yield stack.enter_context(_composed())
        elif choice.url:
            yield choice.url
        else:
            folder = stack.enter_context(TemporaryDirectory(prefix="tasker-zmq-tests-"))
            place = Path(folder) / "postgres"
            server = database_server(None, data_dir=place, keep=False, durable=False)
            yield stack.enter_context(server).url


@contextmanager
def _composed() -> Iterator[str]:
    compose = ["docker", "compose", "--project-name", f"tasker-zmq-tests-{os.getpid()}"]
    variables = os.environ | {"TASKER_POSTGRES_PORT": "0"}  # any free port

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*compose, *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=variables,
            timeout=COMPOSE_SECONDS_MAX,
        )

    try:
        started = run("up", "--detach", "--wait", "postgres")
        if started.returncode != 0:
            words = started.stderr.strip().splitlines() or ["no reason given"]
            pytest.exit(f"`docker compose up` failed: {words[0]}; or use DB=embedded", returncode=3)
        address = run("port", "postgres", "5432").stdout.strip()
        yield f"postgresql+psycopg://tasker:tasker@{address}/tasker"
    finally:
        run("down", "--volumes", "--timeout", "1")


def named(url: str, database: str) -> str:
    """`url`, but of another database on the same server."""
    changed: URL = make_url(url).set(database=database)
    return changed.render_as_string(hide_password=False)


def execute(url: str, statement: str) -> None:
    """One statement outside of any transaction, as CREATE DATABASE wants it."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))


@contextmanager
def database(server_url: str, name: str, *, template: str | None) -> Iterator[str]:
    """The URL of a new database, empty or a copy of `template`, which is dropped afterwards."""
    # Copied file by file: by way of the log it takes two to seven times as long.
    source = f' TEMPLATE "{template}" STRATEGY file_copy' if template else ""
    execute(server_url, f'CREATE DATABASE "{name}"{source}')
    try:
        yield named(server_url, name)
    finally:
        execute(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')
