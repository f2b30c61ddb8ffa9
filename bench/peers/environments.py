"""The peers' own virtual environments: made on demand inside of this project, never in ours."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tasker_zmq.cli.demonstration.interruption import Interruption
from tasker_zmq.errors import TaskerError
from tasker_zmq.settings.environment import process_variables

HERE: Final = Path(__file__).resolve().parent
FOLDER: Final = HERE.parents[1] / ".peers"
INSTALL_SECONDS_MAX: Final = 900.0
END_SECONDS_MAX: Final = 10.0
LAST_LINES: Final = 3


class PeerMissingError(TaskerError):
    """A peer cannot be installed here; the message says what to do."""


def requirements(name: str) -> Path:
    return HERE / f"{name}.txt"


def is_ready(place: Path, wanted: str) -> bool:
    """Whether the environment was made, to its end, for these very requirements."""
    stamp = place / "installed.txt"
    return stamp.exists() and stamp.read_text(encoding="utf-8") == wanted


def python_of(name: str, interruption: Interruption, *, folder: Path = FOLDER) -> Path:
    """The Python of a peer's environment, which is made first if need be; PeerMissingError."""
    place = folder / name
    python = place / "bin" / "python"
    wanted = requirements(name).read_text(encoding="utf-8")
    if is_ready(place, wanted):
        return python
    shutil.rmtree(place, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="installing-") as scratch:
        # What an interrupted installation leaves behind goes with that folder.
        variables = {**process_variables(), "TMPDIR": scratch, "PIP_NO_CACHE_DIR": "1"}
        try:
            _run(
                [sys.executable, "-m", "venv", str(place)], name, interruption, variables=variables
            )
            install = [str(python), "-m", "pip", "install", "--quiet", "--no-input"]
            asked = [*install, "--requirement", str(requirements(name))]
            _run(asked, name, interruption, variables=variables)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
    (place / "installed.txt").write_text(wanted, encoding="utf-8")
    return python


def version(name: str, python: Path) -> str:
    """Which version of the peer is installed."""
    asked = f"import importlib.metadata as m; print(m.version({name!r}))"
    told = subprocess.run([str(python), "-c", asked], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def refusal(name: str, said: str) -> str:
    """The sentence for an installation that failed, of what the installer said last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines
    found = " ".join(errors[-LAST_LINES:]) or "nothing was said"
    return (
        f"wanted to install {name} from a package index for the comparison, found: {found}; "
        "see that this machine reaches one (PIP_INDEX_URL names another), "
        f"or leave {name} out with --without {name}"
    )


def _run(
    asked: Sequence[str], name: str, interruption: Interruption, *, variables: Mapping[str, str]
) -> None:
    with tempfile.TemporaryFile(dir=variables["TMPDIR"]) as said:
        running = subprocess.Popen(
            asked,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=dict(variables),
            start_new_session=True,  # Ctrl-C is for us
        )
        try:
            ended = interruption.wait_until(
                lambda: running.poll() is not None, seconds_max=INSTALL_SECONDS_MAX
            )
        finally:
            if running.poll() is None:
                running.kill()
                running.wait(END_SECONDS_MAX)
        if not ended or running.returncode != 0:
            said.seek(0)
            raise PeerMissingError(refusal(name, said.read().decode(errors="replace")))
