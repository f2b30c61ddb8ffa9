import contextlib
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tasker_zmq.protocol.messages import PartialResult
from tasker_zmq.worker.durable_outbox import OutboxFileError, open_outbox
from tasker_zmq.worker.outbox import key_of
from tests.worker.test_outbox import keep, recorded, report

# A process that keeps three results, has the second one recorded, and waits to be killed.
KEEPER = """
import sys
from pathlib import Path
from tasker_zmq.worker.durable_outbox import open_outbox
from tasker_zmq.worker.outbox import key_of
from tests.worker.test_outbox import keep, recorded, report
with open_outbox(Path(sys.argv[1]), worker_name="w", chance=lambda: 1.0) as outbox:
    keep(outbox, report(1), report(2))
    assert outbox.settle(now=1.0) is None
    outbox.recorded([recorded(key_of(report(2)))])
    keep(outbox, report(3, batch_id="c"))
    assert outbox.settle(now=2.0) is None
    keep(outbox, report(4))  # not settled: as if it was killed at this point
    print("kept", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    program = [sys.executable, "-c", KEEPER, str(tmp_path / "outbox")]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "kept\n"
    yield process
    process.kill()
    process.communicate()


def test_what_a_killed_process_had_settled_is_there_for_the_next(
    tmp_path: Path, keeper: "subprocess.Popen[str]"
) -> None:
    keeper.send_signal(signal.SIGKILL)
    keeper.wait()
    with open_outbox(tmp_path / "outbox", worker_name="w", chance=lambda: 1.0) as outbox:
        found = outbox.due(0.0)
        assert [each.report for each in found] == [report(1), report(3, batch_id="c")]
        assert outbox.batch_ids() == ("b", "c")
        outbox.recorded([recorded(each.key) for each in found])
    with open_outbox(tmp_path / "outbox", worker_name="w", chance=lambda: 1.0) as outbox:
        assert len(outbox) == 0


def test_an_output_survives_to_the_byte(tmp_path: Path) -> None:
    output = '{"é": 1.0, "b":[1e5,9007199254740993,"\\u00e9\\ud83d\\ude00"]}'.encode()
    kept = msgspec.structs.replace(report(1), output=msgspec.Raw(output))
    with open_outbox(tmp_path / "outbox", worker_name="w", chance=lambda: 1.0) as outbox:
        keep(outbox, kept)
    with open_outbox(tmp_path / "outbox", worker_name="w", chance=lambda: 1.0) as outbox:
        (entry,) = outbox.due(0.0)
    assert isinstance(entry.report, PartialResult)
    assert bytes(entry.report.output) == output


def test_one_process_at_a_time_uses_a_file(tmp_path: Path, keeper: "subprocess.Popen[str]") -> None:
    assert keeper.poll() is None
    with (
        pytest.raises(OutboxFileError, match="in use by another process"),
        open_outbox(tmp_path / "outbox", worker_name="w", chance=lambda: 1.0),
    ):
        pass


def foreign(path: Path) -> None:
    with open_outbox(path, worker_name="somebody", chance=lambda: 1.0):
        pass


def other_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()


def nonsense(path: Path) -> None:
    path.write_bytes(b"no database " * 100)


def newer(path: Path) -> None:
    foreign(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def torn(path: Path) -> None:
    foreign(path)
    path.write_bytes(path.read_bytes()[:5000] + b"\xff" * 5000)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (foreign, "is the worker somebody's, and this one is w"),
        (other_database, "the database of another program"),
        (nonsense, "file is not a database"),
        (newer, "has format 99; this version reads 1"),
        (torn, "malformed"),
        (Path.mkdir, "unable to open database file"),
    ],
)
def test_a_file_that_is_no_outbox_of_ours_is_refused_and_left_alone(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "outbox"
    spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    with (
        pytest.raises(OutboxFileError, match=said),
        open_outbox(path, worker_name="w", chance=lambda: 1.0),
    ):
        pass
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "outbox"
    with (
        pytest.raises(OutboxFileError, match=r"absent/outbox' cannot be opened: .*No such file"),
        open_outbox(path, worker_name="w", chance=lambda: 1.0),
    ):
        pass


@contextlib.contextmanager
def full_disk(bytes_left: int = 0) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes; what SQLite gets is EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_nothing_that_was_kept_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    with open_outbox(path, worker_name="w", chance=lambda: 1.0) as outbox:
        keep(outbox, report(1))
        assert outbox.settle(now=1.0) is None
        keep(outbox, report(2))
        with full_disk():
            assert outbox.settle(now=2.0) is not None
            keep(outbox, report(3))
            outbox.recorded([recorded(key_of(report(1)))])
            assert outbox.settle(now=2.5) is not None  # it does not try each time
            assert outbox.settle(now=3.5) is not None
            assert [each.report for each in outbox.due(4.0)] == [report(2), report(3)]
        assert outbox.settle(now=5.0) is None
        assert len(outbox) == 2
    with open_outbox(path, worker_name="w", chance=lambda: 1.0) as outbox:
        assert [each.report for each in outbox.due(0.0)] == [report(2), report(3)]


def test_a_disk_that_is_full_at_the_start_or_at_the_end_is_told(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    with (
        full_disk(),
        pytest.raises(OutboxFileError, match="cannot be used"),
        open_outbox(path, worker_name="w", chance=lambda: 1.0),
    ):
        pass
    opened = open_outbox(path, worker_name="w", chance=lambda: 1.0)
    keep(opened.__enter__(), report(1))
    with full_disk(), pytest.raises(OutboxFileError, match="their steps will be run again"):
        opened.__exit__(None, None, None)


def test_a_file_does_not_grow_with_the_results_that_came_and_went(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    sizes = []
    with open_outbox(path, worker_name="w", chance=lambda: 1.0) as outbox:
        large = msgspec.Raw(b'"' + b"x" * 20_000 + b'"')
        for number in range(400):
            kept = msgspec.structs.replace(report(number), output=large)
            keep(outbox, kept)
            assert outbox.settle(now=float(number)) is None
            outbox.recorded([recorded(key_of(kept))])
            sizes.append(sum(each.stat().st_size for each in tmp_path.iterdir()))
    assert max(sizes) < 6_000_000 < 400 * 20_000
