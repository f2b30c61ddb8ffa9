"""The README's first page, copied line by line: its blocks are run as a reader would run them.

A comment before a block says what is done with it: `make` looks for the targets, `daemon` and
`worker` start something that goes on, `run` runs its lines and wants them to succeed, `run without
a worker` does so after the worker was stopped, `output` is what the last line printed, `python`
is a program to run.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.processes.running import PURPOSES, Program, eventually, inherited_variables
from tests.tidy import source

README: Final = source.ROOT / "README.md"
EXAMPLE: Final = source.ROOT / "examples" / "orders.py"
FENCE: Final = re.compile(
    r"^(?:<!-- test: (?P<marker>[a-z ]+) -->\n)?```(?P<language>\w+)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PROMISE: Final = re.compile(r"^> (.+)$", re.MULTILINE)
HOW: Final = ("make", "daemon", "worker", "run", "run without a worker", "output", "python")
INSTALLED: Final = ".venv/bin/"
COMMAND_SECONDS_MAX: Final = 60
EXAMPLE_LINES_MAX: Final = 15
LASTING: Final = {"daemon": "is ready", "worker": "worker_registered"}


@dataclass(frozen=True)
class Block:
    """A fenced block and what its comment says is to be done with it."""

    marker: str | None
    language: str
    body: str

    @property
    def lines(self) -> list[str]:
        if self.language == "python":
            return [f"{INSTALLED}python -c {shlex.quote(self.body)}"]
        return [line for line in self.body.splitlines() if line.strip()]


def blocks() -> list[Block]:
    return [
        Block(each["marker"], each["language"], each["body"])
        for each in FENCE.finditer(source.text(README))
    ]


def likeness(said: str) -> list[str]:
    """`said` without what differs from run to run: times, the machine's name, widths of columns."""
    said = re.sub(r"requested (now|\d+(\.\d+)? \w+ ago)", "requested then", said)
    said = re.sub(r"\d+(\.\d+)? (ms|s|min)\b", "a while", said)
    said = re.sub(r"\ba task \d+|\btask \d+", "task N", said)
    said = re.sub(r"orders@[\w.\-]+", "orders@here", said)
    return [re.sub(r"\s+", " ", line).strip() for line in said.splitlines() if line.strip()]


class Reader:
    """Somebody who copies the README's lines into three terminals."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._folder = folder
        self._variables = dict(variables)
        self._programs: dict[str, Program] = {}
        self.said = ""

    def follow(self, block: Block) -> None:
        match block.marker:
            case "daemon" | "worker":
                self._start(block.marker, block)
            case "run" | "run without a worker" | "python":
                if block.marker == "run without a worker":
                    self._stop("worker")
                for line in block.lines:
                    self._run(line)
            case "output":
                assert likeness(self.said) == likeness(block.body)
            case "make":
                for line in block.lines:
                    assert has_target(line), line
            case _:
                raise AssertionError(f"the README wants '{block.marker}', known: {HOW}")

    def stop(self) -> None:
        """Stop worker and daemon; both must end well."""
        for name in reversed(list(self._programs)):
            self._stop(name)

    def _start(self, name: str, block: Block) -> None:
        (line,) = block.lines
        log = self._folder / f"{name}.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {here(line)}"],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._variables,
                start_new_session=True,
            )
        program = self._programs[name] = Program(name, process, log)

        def is_there() -> bool:
            program.check()
            return LASTING[name] in program.said

        eventually(is_there, f"the {name} says '{LASTING[name]}'")

    def _stop(self, name: str) -> None:
        self._programs.pop(name).stop()

    def _run(self, line: str) -> None:
        finished = subprocess.run(
            ["sh", "-c", here(line)],
            check=False,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            cwd=self._folder,
            env=self._variables,
        )
        assert finished.returncode == 0, f"{line}\n{finished.stdout}\n{finished.stderr}"
        self.said = finished.stdout


def here(line: str) -> str:
    """The line with the programs of the environment that runs the tests."""
    return line.replace(INSTALLED, f"{Path(sys.executable).parent}/")


def has_target(line: str) -> bool:
    command, _, target = line.partition(" ")
    known = re.findall(r"^([a-z-]+):", source.text(source.ROOT / "Makefile"), re.MULTILINE)
    return command == "make" and target in known


@pytest.fixture
def reader(database_url: str, short_folder: Path) -> Iterator[Reader]:
    """A reader in a folder with the example, on endpoints and a database of the test's own."""
    (short_folder / "examples").mkdir()
    shutil.copy(EXAMPLE, short_folder / "examples")
    endpoints = {each: f"ipc://{short_folder}/{each}" for each in PURPOSES}
    variables = {
        **inherited_variables(),
        **{f"TASKER_ENDPOINTS_{name.upper()}": each for name, each in endpoints.items()},
        "TASKER_COMMANDS": endpoints["commands"],
        "TASKER_DATABASE_URL": database_url,
        "PYTHONUTF8": "1",
        "COLUMNS": "200",
        "HOME": str(short_folder),
    }
    found = Reader(short_folder, variables)
    try:
        yield found
    finally:
        found.stop()


@pytest.mark.slow
def test_the_readme_can_be_followed_by_copying_its_lines(reader: Reader) -> None:
    marked = [block for block in blocks() if block.marker is not None]
    assert {block.marker for block in marked} == set(HOW)
    for block in marked:
        reader.follow(block)
    (promise,) = PROMISE.findall(source.text(README))
    assert promise.replace("\\", "") in " ".join(reader.said.split())


def test_every_command_of_the_readme_is_marked_for_the_test() -> None:
    unmarked = [block.body for block in blocks() if block.language == "sh" and not block.marker]
    assert unmarked == []


def test_the_readme_shows_the_example_file_as_it_is() -> None:
    shown = next(block.body for block in blocks() if block.language == "python")
    assert shown == source.text(EXAMPLE)
    assert len([line for line in shown.splitlines() if line.strip()]) <= EXAMPLE_LINES_MAX


def test_the_example_runs_without_a_server_as_the_readme_says() -> None:
    called = re.search(r"`fulfil\.(run_local\(.+?\))`", source.text(README))
    assert called is not None
    script = f"import json, orders; print(json.dumps(orders.fulfil.{called[1]}))"
    finished = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        cwd=EXAMPLE.parent,
    )
    results = json.loads(finished.stdout)
    assert results["ship_order"] == {"parcel": "tea", "reserved": 3, "charged_cents": 1350}


def test_the_list_of_seeds_names_tests_that_there_are() -> None:
    page = source.text(source.ROOT / "docs" / "SEEDS.md")
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", page)
    assert named
    lost = [
        f"{file}::{test}"
        for file, test in named
        if not (source.ROOT / file).exists()
        or f"def {test}(" not in source.text(source.ROOT / file)
    ]
    assert not lost, source.listed(lost)
