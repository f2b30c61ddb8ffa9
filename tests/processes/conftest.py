"""Factories of real processes: `daemon()`, `worker(daemon, source)`; all ended after the test."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Final, Protocol

import pytest

from tests.processes.rig import Witness
from tests.processes.running import (
    PURPOSES,
    Program,
    RunningDaemon,
    RunningWorker,
    inherited_variables,
)

LONGEST: Final = "crashes"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the longest tests out unless they are asked for by their marker."""
    if LONGEST in config.getoption("markexpr"):
        return
    left_out = [each for each in items if each.get_closest_marker(LONGEST)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [each for each in items if each not in left_out]


class StartDaemon(Protocol):
    """Starts a daemon and waits until it answers.

    A second one with the same `core_id` binds the same ipc endpoints: that is how one is restarted
    after `kill()` or `stop()`. `variables` are settings such as TASKER_RETRY_LIMIT.
    """

    def __call__(
        self,
        *,
        core_id: str = "core-1",
        transport: str = "ipc",
        variables: Mapping[str, str] | None = None,
    ) -> RunningDaemon: ...


class StartWorker(Protocol):
    """Starts a worker on `source` (Python, the file handlers.py) and waits for its session.

    `sessions` is how many sessions the daemon must then have; None waits for nothing.
    """

    def __call__(
        self,
        to: RunningDaemon,
        source: str,
        *,
        name: str = "worker-1",
        arguments: tuple[str, ...] = (),
        variables: Mapping[str, str] | None = None,
        sessions: int | None = 1,
    ) -> RunningWorker: ...


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Where sockets can live: names of Unix sockets are short, pytest's folders are not."""
    with tempfile.TemporaryDirectory(prefix="tz-") as folder:
        yield Path(folder)


@pytest.fixture
def witness(short_folder: Path) -> Witness:
    """The file into which steps of rig.WORKLOAD write that they ran."""
    return Witness(short_folder / "witness")


def _endpoints(core_id: str, transport: str, folder: Path) -> dict[str, str]:
    if transport == "tcp":
        return dict.fromkeys(PURPOSES, "tcp://127.0.0.1:*")
    return {purpose: f"ipc://{folder}/{core_id}-{purpose}" for purpose in PURPOSES}


@pytest.fixture
def daemon(database_url: str, short_folder: Path) -> Iterator[StartDaemon]:
    """A factory; what still runs is ended by SIGTERM and must exit with 0."""
    started: list[RunningDaemon] = []

    def start(
        *,
        core_id: str = "core-1",
        transport: str = "ipc",
        variables: Mapping[str, str] | None = None,
    ) -> RunningDaemon:
        endpoints = _endpoints(core_id, transport, short_folder)
        found = RunningDaemon.start(
            "main",
            ("daemon",),
            variables={
                **inherited_variables(),
                **{f"TASKER_ENDPOINTS_{name.upper()}": each for name, each in endpoints.items()},
                "TASKER_DATABASE_URL": database_url,
                "TASKER_CORE_ID": core_id,
                "TASKER_DRAIN_GRACE_SECONDS": "2s",
                **(variables or {}),
            },
            log=short_folder / f"daemon-{len(started) + 1}.log",
            cwd=short_folder,
        )
        started.append(found)
        found.database_url, found.core_id = database_url, core_id
        found.await_ready()
        return found

    yield start
    stop_all(started)


@pytest.fixture
def worker(daemon: StartDaemon, short_folder: Path) -> Iterator[StartWorker]:
    """A factory; what still runs is ended by SIGTERM, before the daemons, and must exit with 0."""
    started: list[RunningWorker] = []
    numbers = count(1)

    def start(
        to: RunningDaemon,
        source: str,
        *,
        name: str = "worker-1",
        arguments: tuple[str, ...] = (),
        variables: Mapping[str, str] | None = None,
        sessions: int | None = 1,
    ) -> RunningWorker:
        number = next(numbers)
        folder = short_folder / f"handlers-{number}"
        folder.mkdir()
        (folder / "handlers.py").write_text(source, encoding="utf-8")
        found = RunningWorker.start(
            "worker",
            ("handlers.py", "--name", name, "--drain-seconds", "2", *arguments),
            variables={
                **inherited_variables(),
                "TASKER_COMMANDS": to.endpoints["commands"],
                **(variables or {}),
            },
            log=short_folder / f"worker-{number}.log",
            cwd=folder,
        )
        started.append(found)
        if sessions is not None:
            to.await_sessions(sessions)
        return found

    yield start
    stop_all(started)


def stop_all(programs: "list[RunningDaemon] | list[RunningWorker]") -> None:
    """Stop every one, also when an earlier one ended badly; then say which did."""
    problems: list[str] = []
    for each in reversed(programs):
        problems += _problem(each)
    assert not problems, "\n".join(problems)


def _problem(program: Program) -> list[str]:
    sys.stdout.write(f"--- {program.name}:\n{program.tail}\n")  # shown when the test fails
    try:
        program.stop()
    except AssertionError as error:
        return [str(error)]
    return []
