"""Where the database comes from."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from tasker_zmq.errors import SettingsError, UnreachableError
from tasker_zmq.store import embedded
from tasker_zmq.store.provision import database_server, normalise_url

HOLDER = """
import sys, time
from pathlib import Path
from tasker_zmq.store.provision import database_server
with database_server(None, data_dir=Path(sys.argv[1]), keep=True, durable=False) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: its parents are closed to the user that PostgreSQL runs as when we are root.
    with TemporaryDirectory(prefix="tasker-zmq-", ignore_cleanup_errors=True) as name:
        yield Path(name) / "database"


def asked(url: str, question: str) -> str:
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
        cursor = connection.execute(question.encode())
        row = cursor.fetchone() if cursor.description else None
    return str(row[0]) if row else ""


def server_id(folder: Path) -> int:
    return int((folder / "cluster" / "postmaster.pid").read_text().splitlines()[0])


def running(folder: Path) -> bool:
    return (folder / "cluster" / "postmaster.pid").exists()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("postgres://u:p@h:1/d", "postgresql+psycopg://u:p@h:1/d"),
        ("postgresql://h/d", "postgresql+psycopg://h/d"),
        ("postgresql+psycopg:///d?host=%2Frun", "postgresql+psycopg:///d?host=%2Frun"),
        (" postgresql://h/d\n", "postgresql+psycopg://h/d"),
    ],
)
def test_every_way_to_write_a_postgresql_url_leads_to_one_driver(given: str, wanted: str) -> None:
    assert normalise_url(given) == wanted


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("mysql://h/d", "only PostgreSQL will do"),
        ("postgresq://h/d", "did you mean 'postgresql://'?"),
        ("localhost/d", "no '://'"),
        ("postgresql://u:p@h:port/d", "cannot be read"),
    ],
)
def test_another_kind_of_url_is_refused_with_the_way_out(given: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=hint.replace("?", r"\?")):
        normalise_url(given)


def test_a_refused_url_does_not_show_its_password() -> None:
    for url in ("postgresql://u:geheim@h:port/d", "mysql://u:geheim@h/d", "u:geheim@h/d"):
        with pytest.raises(SettingsError) as refusal:
            normalise_url(url)
        assert "geheim" not in str(refusal.value)


def test_a_given_url_is_used_and_described_without_its_password(folder: Path) -> None:
    url = "postgres://ann:geheim@db.example:6543/orders"
    with database_server(url, data_dir=folder, keep=True) as server:
        assert server.url == "postgresql+psycopg://ann:geheim@db.example:6543/orders"
        assert server.origin == "PostgreSQL database 'orders' at db.example:6543"
    assert not folder.exists()


def test_without_url_and_wheel_both_ways_out_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "WHEEL", "a_wheel_that_nobody_installed")
    with (
        pytest.raises(UnreachableError, match=r"tasker-zmq\[embedded\].*TASKER_DATABASE_URL"),
        database_server(None, data_dir=folder, keep=True),
    ):
        pass


def test_the_embedded_server_keeps_its_data_and_ends_with_its_last_user(folder: Path) -> None:
    with database_server(None, data_dir=folder, keep=True, durable=False) as first:
        asked(first.url, "CREATE TABLE kept (n int)")
        with database_server(None, data_dir=folder, keep=True, durable=False) as second:
            assert second.url == first.url
        assert asked(first.url, "SELECT count(*) FROM kept") == "0"
    assert not running(folder)
    with database_server(None, data_dir=folder, keep=False, durable=False) as again:
        assert asked(again.url, "SELECT count(*) FROM kept") == "0"
    assert not folder.exists()


def test_a_folder_with_a_long_or_odd_name_works_too(folder: Path) -> None:
    odd = folder / ("a long name with 'quotes' and spaces, " * 3)
    with database_server(None, data_dir=odd, keep=False, durable=False) as server:
        assert asked(server.url, "SELECT 1") == "1"
    assert not odd.exists()


def test_a_killed_user_leaves_nothing_that_stops_the_next_one(folder: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        url = holder.stdout.readline().strip()
        asked(url, "CREATE TABLE kept (n int)")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with database_server(None, data_dir=folder, keep=False, durable=False) as server:
        assert asked(server.url, "SELECT count(*) FROM kept") == "0"
    assert not folder.exists()


def test_a_killed_server_starts_again_even_if_its_process_id_is_another_process(
    folder: Path,
) -> None:
    with database_server(None, data_dir=folder, keep=True) as server:
        asked(server.url, "CREATE TABLE kept (n int)")
        os.kill(server_id(folder), signal.SIGKILL)
    lock = folder / "cluster" / "postmaster.pid"
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with database_server(None, data_dir=folder, keep=False, durable=False) as server:
        assert asked(server.url, "SELECT count(*) FROM kept") == "0"


def test_an_interrupted_first_start_is_begun_anew(folder: Path) -> None:
    half_made = folder / "cluster.unfinished"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    with database_server(None, data_dir=folder, keep=False, durable=False) as server:
        assert asked(server.url, "SELECT 1") == "1"


def test_data_of_another_postgresql_is_refused_and_left_alone(folder: Path) -> None:
    (folder / "cluster").mkdir(parents=True)
    (folder / "cluster" / "PG_VERSION").write_text("15\n")
    with (
        pytest.raises(UnreachableError, match="made by PostgreSQL 15, wanted 18"),
        database_server(None, data_dir=folder, keep=True),
    ):
        pass
    assert (folder / "cluster" / "PG_VERSION").exists()


def test_the_environment_of_other_postgresql_programs_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "PGUSER": "nobody"}.items():
        monkeypatch.setenv(name, value)
    with database_server(None, data_dir=folder, keep=False, durable=False) as server:
        assert asked(server.url, "SELECT current_user") == "postgres"
