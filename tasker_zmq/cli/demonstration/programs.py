"""The processes that the demo starts: each with a log file, each ended by its own handle."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasker_zmq.errors import UnreachableError

TERM_SECONDS_MAX: Final = 10.0
KILL_SECONDS_MAX: Final = 5.0
LOG_LINES_SHOWN: Final = 12
LOG_BYTES_READ: Final = 16_384
# The console scripts need not be on the PATH; this is what they do.
RUN: Final = "import sys; from tasker_zmq.cli.{module} import main; sys.exit(main())"


@dataclass(frozen=True)
class Program:
    """A running process of ours."""

    name: str
    running: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise UnreachableError, with the last words of its log, if it has ended."""
        code = self.running.poll()
        if code is not None:
            raise UnreachableError(f"{self.name} ended by itself with exit code {code}")


def start(
    name: str,
    module: str,
    *,
    arguments: Sequence[str],
    variables: Mapping[str, str],
    folder: Path,
) -> Program:
    """One of our two commands as a process that runs in `folder` and keeps its log there."""
    log = folder / f"{name}.log"
    with log.open("wb") as said:
        running = subprocess.Popen(
            [sys.executable, "-c", RUN.format(module=module), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(variables),
            start_new_session=True,  # Ctrl-C is for us: we end the others in good order
        )
    return Program(name, running, log)


def end(programs: Sequence[Program]) -> None:
    """Ask the workers to stop, then the daemon, and kill those that do not.

    Workers, which were started after it, hand their last results over while the daemon listens.
    """
    for group in (programs[1:], programs[:1]):
        _end_together([each.running for each in group if each.running.poll() is None])


def _end_together(alive: Sequence["subprocess.Popen[bytes]"]) -> None:
    for each in alive:
        each.terminate()
    for each in alive:
        try:
            each.wait(TERM_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            each.kill()
            each.wait(KILL_SECONDS_MAX)


def last_words(program: Program) -> list[str]:
    """The end of a program's log."""
    with program.log.open("rb") as log:
        log.seek(max(0, program.log.stat().st_size - LOG_BYTES_READ))
        lines = log.read().decode(errors="replace").splitlines()
    return lines[-LOG_LINES_SHOWN:]
