import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.conftest import RunningProgram
from tests.worker.fake_daemon import FakeDaemon, Result, step_request

Run = Callable[..., RunningProgram]


def send_notes(daemon: FakeDaemon, path: Path, *numbers: int, batch_id: str = "batch-1") -> None:
    steps = [
        step_request(number, "orders.note", {"path": str(path), "number": number})
        for number in numbers
    ]
    daemon.send(*steps, batch_id=batch_id)


def gist(result: Result) -> tuple[object, ...]:
    """What two sendings of one result have in common."""
    step_id, output = getattr(result, "step_id", None), getattr(result, "output", b"")
    return type(result), result.batch_id, step_id, bytes(output)


def told_again(daemon: FakeDaemon, results: list[Result]) -> list[Result]:
    """Waits until all these, and no others, have come once more under the present session."""
    found: dict[tuple[object, ...], Result] = {}
    while found.keys() != {gist(each) for each in results}:
        result = daemon.result()  # some may have been sent again under the session before
        if result.session_id == daemon.session_id:
            found[gist(result)] = result
            assert len(found) <= len(results)
    return list(found.values())


@pytest.mark.parametrize("executor", ["thread", "process", "async"])
def test_what_a_killed_worker_had_done_is_told_by_the_next_and_not_done_again(
    daemon: FakeDaemon, run: Run, tmp_path: Path, executor: str
) -> None:
    notes = tmp_path / "notes"
    arguments = ("orders.py", "--name", "me", "--outbox", "out.db", "--executor", executor)
    first = run(*arguments, commands=daemon.url)
    daemon.register()
    send_notes(daemon, notes, 1, 2)
    found = [daemon.result() for _ in range(3)]
    send_notes(daemon, notes, 3, batch_id="batch-2")
    found += [daemon.result(), daemon.result()]
    first.kill()
    second = run(*arguments, commands=daemon.url)
    registered = daemon.register()
    assert registered.former_session_id is None
    in_hand = {each.batch_id: each.step_ids for each in registered.in_hand}
    assert in_hand == {"batch-1": (), "batch-2": ()}
    again = told_again(daemon, found)
    send_notes(daemon, notes, 3, batch_id="batch-2")  # once more, and it is not run
    send_notes(daemon, notes, 4, batch_id="batch-3")
    while sum(each.batch_id == "batch-3" for each in again) < 2:
        again.append(daemon.result())  # those of batch-2 were asked for, and come in between
    daemon.record(*again)
    assert sorted(notes.read_text().split()) == ["1", "2", "3", "4"]
    second.send_signal(signal.SIGTERM)
    daemon.goodbye()
    code, log = second.end()
    assert code == 0, log
    assert "unrecorded=0" in log.splitlines()[-1]


def test_a_worker_that_cannot_write_its_outbox_takes_no_new_work_and_loses_no_result(
    daemon: FakeDaemon, run: Run, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    process = run("orders.py", "--outbox", "out.db", "--executor", "process", commands=daemon.url)
    daemon.register()
    send_notes(daemon, notes, 1)
    daemon.record(daemon.partial(), daemon.completion())
    limit = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    send_notes(daemon, notes, 2, batch_id="batch-2")
    found = [daemon.result(), daemon.result()]
    daemon.await_unsubscription()
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit)
    daemon.await_subscription()
    process.kill()
    _, log = process.end()
    assert "outbox_not_writable_no_new_work" in log
    assert "outbox_writable_again" in log
    run("orders.py", "--outbox", "out.db", commands=daemon.url)
    daemon.register()
    daemon.record(*told_again(daemon, found))


def test_an_outbox_that_another_worker_uses_is_refused(daemon: FakeDaemon, run: Run) -> None:
    run("orders.py", "--outbox", "out.db", commands=daemon.url)
    daemon.register()
    code, said = run("orders.py", "--outbox", "out.db", commands=daemon.url).end()
    assert code == 2
    assert "outbox 'out.db' is in use by another process" in said
    assert "Traceback" not in said


def test_an_outbox_is_its_workers(daemon: FakeDaemon, run: Run) -> None:
    first = run("orders.py", "--outbox", "out.db", "--name", "a", commands=daemon.url)
    daemon.register()
    first.kill()
    code, said = run("orders.py", "--outbox", "out.db", "--name", "b", commands=daemon.url).end()
    assert code == 2
    assert "outbox 'out.db' is the worker a's, and this one is b" in said
