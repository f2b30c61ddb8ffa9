"""What a daemon and a worker need not import before they are at work, for it takes long."""

import subprocess
import sys

import pytest

LATER = {"alembic", "jsonschema", "mako", "pygments", "referencing", "rich"}


def imported_by(module: str) -> set[str]:
    """The packages that are there once `module` is."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split())


def test_a_daemon_starts_without_what_only_migrations_schemas_and_tables_need() -> None:
    assert not imported_by("tasker_zmq.cli.daemon") & LATER


@pytest.mark.parametrize("module", ["tasker_zmq.cli.worker", "tasker_zmq"])
def test_a_worker_starts_without_these_and_without_a_database(module: str) -> None:
    assert not imported_by(module) & (LATER | {"sqlalchemy", "psycopg"})
