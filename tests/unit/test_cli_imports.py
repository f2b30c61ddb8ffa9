"""What a daemon and a worker need not import before they are at work, for it takes long."""

import subprocess
import sys

import pytest

LATER = {"alembic", "jsonschema", "mako", "pygments", "referencing", "rich"}


def said_by(program: str) -> list[str]:
    """The words that a Python of its own prints."""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return ended.stdout.split()


def imported_by(module: str) -> set[str]:
    """The packages that are there once `module` is."""
    names = "*{name.partition('.')[0] for name in sys.modules}"
    return set(said_by(f"import sys, {module}; print({names})"))


def test_a_daemon_starts_without_what_only_migrations_schemas_and_tables_need() -> None:
    assert not imported_by("tasker_zmq.cli.daemon") & LATER


@pytest.mark.parametrize("module", ["tasker_zmq.cli.worker", "tasker_zmq"])
def test_a_worker_starts_without_these_and_without_a_database(module: str) -> None:
    assert not imported_by(module) & (LATER | {"sqlalchemy", "psycopg"})


def test_garbage_is_looked_for_again_once_a_command_is_imported_and_not_among_what_stays() -> None:
    load = "from tasker_zmq.cli.main import SUBCOMMANDS; SUBCOMMANDS['daemon'].load()"
    enabled, frozen = said_by(f"import gc; {load}; print(gc.isenabled(), gc.get_freeze_count())")
    assert enabled == "True"
    assert int(frozen) > 10_000
