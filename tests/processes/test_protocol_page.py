"""The worker that docs/PROTOCOL.md shows does what the page says, against a real daemon."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.conftest import StartDaemon
from tests.processes.running import RunningDaemon, eventually

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "PROTOCOL.md"
TEMPLATE = {
    "name": "doubling",
    "namespace_name": "tests",
    "version": "1.0.0",
    "step_templates": [
        {"name": "first", "handler_class": "doubling.double"},
        {"name": "second", "handler_class": "doubling.double", "depends_on_step": "first"},
    ],
}


def code_of(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


@pytest.fixture
def served(daemon: StartDaemon, tmp_path: Path) -> Iterator[RunningDaemon]:
    """A daemon with the page's worker, which is ended as one that knows no signals."""
    running = daemon(variables={"TASKER_HEARTBEAT_INTERVAL_SECONDS": "100ms"})
    (tmp_path / "worker.py").write_text(code_of(PAGE), encoding="utf-8")
    said = (tmp_path / "said").open("wb")
    with (
        said,
        subprocess.Popen(
            [sys.executable, "worker.py", running.endpoints["commands"]],
            cwd=tmp_path,
            stdout=said,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            running.await_sessions(1)
            yield running
            assert process.poll() is None, (tmp_path / "said").read_text()
        finally:
            process.kill()


def test_the_worker_of_the_page_runs_tasks_and_its_accounts_agree(served: RunningDaemon) -> None:
    with served.client() as client:
        client.ask("PublishTemplates", {"templates": [TEMPLATE]})
        tasks = [client.submit("tests/doubling@1.0.0", {"number": each}) for each in range(20)]
    for number, task_id in enumerate(tasks):
        steps = served.await_task(task_id)["steps"]
        assert [each["results"] for each in steps] == [number * 2, number * 2]

    def statuses() -> list[str]:
        found = served.rows("SELECT reconciliation_status FROM tasker_step_execution_batches")
        return [each["reconciliation_status"] for each in found]

    eventually(lambda: set(statuses()) == {"consistent"}, "all batches are reconciled")


def test_the_worker_of_the_page_reports_failures(served: RunningDaemon) -> None:
    with served.client() as client:
        client.ask("PublishTemplates", {"templates": [{**TEMPLATE, "version": "2.0.0"}]})
        task_id = client.submit("tests/doubling@2.0.0", {"other": 1})

        def has_failed_once() -> bool:
            steps = client.ask("GetTask", {"task_id": task_id})["steps"]
            return bool(steps[0]["state"] in {"waiting_for_retry", "error"})

        eventually(has_failed_once, "the failure is recorded")
