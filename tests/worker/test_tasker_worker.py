import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.conftest import RunningProgram
from tests.worker.fake_daemon import FakeDaemon, step_request

Run = Callable[..., RunningProgram]


@pytest.mark.parametrize("executor", ["thread", "process", "async"])
def test_a_file_is_served_until_sigterm(daemon: FakeDaemon, run: Run, executor: str) -> None:
    process = run("orders.py", "--executor", executor, "--name", "me", commands=daemon.url)
    said = daemon.register()
    assert said.worker_name == "me"
    assert said.handlers == (
        "orders.note",
        "orders.ship",
        "orders.validate",
        "orders.wait_for_line",
    )
    assert [each["name"] for each in said.templates] == ["fulfil"]
    task = said.supported_tasks[0]
    assert (task.namespace, task.name, task.version) == ("orders", "fulfil", "1.0.0")
    assert (said.metadata.pid, said.metadata.language_runtime) == (process.pid, "python")
    daemon.send(
        step_request(1, "orders.ship", {"order": {"id": 5}}, previous={"validate": {"valid": 5}})
    )
    result = daemon.partial()
    assert bytes(result.output) == b"[5,1]"
    daemon.record(result, daemon.completion())
    process.send_signal(signal.SIGTERM)
    assert daemon.goodbye().unfinished == ()
    code, log = process.end()
    assert code == 0, log
    assert "worker_stopped" in log


@pytest.mark.parametrize("executor", ["thread", "process", "async"])
def test_a_second_signal_ends_it_at_once(
    daemon: FakeDaemon, run: Run, executor: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it: opening it never ends
    process = run("orders.py", "--executor", executor, commands=daemon.url)
    daemon.register()
    daemon.send(step_request(1, "orders.wait_for_line", {"path": str(tmp_path / "pipe")}))
    process.send_signal(signal.SIGTERM)
    daemon.await_unsubscription()
    while process.process.poll() is None:  # what follows within a moment still counts as the first
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.process.wait(0.05)
    assert process.process.returncode == 1


def test_a_signal_that_arrives_twice_at_once_is_one_wish(daemon: FakeDaemon, run: Run) -> None:
    process = run("orders.py", commands=daemon.url)
    daemon.register()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    daemon.goodbye()
    assert process.end()[0] == 0


def test_the_log_says_once_that_the_daemon_is_away(run: Run) -> None:
    process = run("orders.py", "--log-format", "json")
    events: list[str] = []
    while not events or '"daemon_away_still_trying"' not in events[-1]:
        events.append(process.errors.readline())
        assert events[-1]
    process.send_signal(signal.SIGINT)
    code, rest = process.end()
    assert code == 0
    assert "daemon_away" not in rest


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("order", "no module 'order' is found"),
        ("order", "did you mean 'orders'?"),
        ("./orderz.py", "did you mean 'orders.py'?"),
        ("pool.yaml", "a pool has no 'modulse'; did you mean 'modules'?"),
        ("absent.yaml", "no pool file 'absent.yaml' is found"),
        ("broken.py", "importing 'broken.py' failed at"),
        ("circle.py", "circle.py:6: steps wait for each other in a circle: b -> a -> b"),
        ("empty.py", "no handlers are defined there"),
    ],
)
def test_a_target_that_cannot_be_used_is_explained(
    run: Run, tmp_path: Path, target: str, said: str
) -> None:
    (tmp_path / "pool.yaml").write_text("modulse: [orders]\n")
    (tmp_path / "broken.py").write_text("import no_such_thing\n")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "circle.py").write_text(
        "from tasker_zmq import step, workflow\n\n"
        "@step(after='b')\ndef a(): ...\n\n"
        "@step(after=a)\ndef b(): ...\n\n"
        "workflow('x/y@1.0.0', b)\n"
    )
    code, log = run(target).end()
    assert code == 2
    assert said in log
    assert "Traceback" not in log


def test_a_pool_names_modules_templates_and_how_to_run(
    daemon: FakeDaemon, run: Run, tmp_path: Path
) -> None:
    pools = tmp_path / "config" / "pools"
    tasks = tmp_path / "config" / "tasks"
    pools.mkdir(parents=True)
    tasks.mkdir()
    (pools / "shop.yaml").write_text(
        "name: shop\nfiles: [../../orders.py]\ntemplates: [../tasks/*.yaml]\nconcurrency: 7\n"
    )
    (tasks / "check.yaml").write_text(
        "name: check\nnamespace_name: orders\nversion: '2.0.0'\n"
        "steps: [{name: validate, handler: {callable: orders.validate}}]\n"
    )
    process = run("config/pools/shop.yaml", commands=daemon.url)
    said = daemon.register()
    assert said.worker_name.startswith("shop@")
    assert said.metadata.max_concurrent_steps == 7
    assert [each["name"] for each in said.templates] == ["fulfil", "check"]
    assert [each.version for each in said.supported_tasks] == ["1.0.0", "2.0.0"]
    process.send_signal(signal.SIGTERM)
    daemon.goodbye()
    assert process.end()[0] == 0
