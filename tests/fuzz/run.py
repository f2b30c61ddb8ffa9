"""`make fuzz`: a minute of guided mutations; on a finding its input is told, exit code 1."""

import argparse
import logging
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

MILLISECONDS_MAX = 50.0  # for one message in one decoder
INSTRUMENTED_TIMES = 10  # so much longer may a loop take whose every branch is counted
HANG_SECONDS = 20
INPUT_BYTES_MAX = 4_096  # longer ones are made by floods
LINES_SHOWN, LINE_SHOWN = 30, 300
ROUTINE = ("INFO:", "WARNING:", "stat::", "0x", "#", "\tNEW_FUNC")
INSTRUMENTED = ["tasker_zmq"]  # atheris takes whole packages, of which the decoders are a part


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def fuzz(folder: Path, *, seconds: int, milliseconds: float) -> None:
    """In a process of its own, for libFuzzer ends it as it likes."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.target import Target
    logging.disable()
    target = Target(milliseconds / 1_000 * INSTRUMENTED_TIMES)
    options = {
        "max_total_time": seconds,
        "max_len": INPUT_BYTES_MAX,
        "timeout": HANG_SECONDS,
        "dict": folder / "words",
        "artifact_prefix": f"{folder / 'found'}/",
        "print_final_stats": 1,
    }
    words = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *words, str(folder / "corpus")], target)
    atheris.Fuzz()


def prepare(folder: Path) -> None:
    """The corpus and the dictionary, in the form in which libFuzzer reads them."""
    from tests.fuzz.seeds import seeds, words

    for name in ("corpus", "found"):
        (folder / name).mkdir()
    for number, seed in enumerate(seeds()):
        (folder / "corpus" / f"{number:04}").write_bytes(seed)
    lines = ["".join(f"\\x{byte:02x}" for byte in word) for word in words()]
    (folder / "words").write_text("".join(f'"{line}"\n' for line in lines), encoding="ascii")


def statistic(name: str, said: str) -> int:
    found = re.search(rf"^stat::{name}:\s*(\d+)$", said, re.MULTILINE)
    return int(found[1]) if found else 0


def watch(seconds: int, milliseconds: float) -> int:
    """Fuzz, then tell what came of it."""
    with TemporaryDirectory(prefix="tz-fuzz-") as name:
        folder = Path(name)
        prepare(folder)
        limits = ["--seconds", str(seconds), "--milliseconds", str(milliseconds)]
        ended = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.run", "--folder", name, *limits],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
        )
        found = [path.read_bytes() for path in sorted((folder / "found").iterdir())]
    said = ended.stdout
    executions = statistic("number_of_executed_units", said)
    say(f"{executions} executions, {statistic('average_exec_per_sec', said)} per second")
    say(f"{len(found)} findings")
    for given in found:
        say(f'  make fuzz ARGS="--input {given.hex()}"')
    if ended.returncode or found:
        lines = [line for line in said.splitlines() if not line.startswith(ROUTINE)]
        say("\n".join(line[:LINE_SHOWN] for line in lines[-LINES_SHOWN:]))
    return 1 if ended.returncode or found else 0


def again(given: bytes, milliseconds: float) -> int:
    """One input, with the exception that it raises."""
    from tests.fuzz.target import Target

    Target(milliseconds / 1_000)(given)
    say("a value or a refusal, in time")
    return 0


def slowest(number: int) -> int:
    """The floods that take a decoder longest, by the processor: the best of several tries."""
    from tests.fuzz.seeds import seeds
    from tests.fuzz.target import FLOOD, Stopwatch

    watch = Stopwatch()
    logging.disable()
    for each in seeds():
        if FLOOD in each:
            watch(each)
    for seconds, name, given in sorted(watch.found, reverse=True)[:number]:
        say(f"{seconds * 1_000:6.1f} ms  {name:16}  {given[-LINE_SHOWN // 3 :]!r}")
    return 0


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--milliseconds", type=float, default=MILLISECONDS_MAX)
    parser.add_argument("--input", type=bytes.fromhex, help="look at this one only, in hex")
    parser.add_argument("--floods", type=int, help="tell the slowest floods, so many of them")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    milliseconds = arguments.milliseconds
    if arguments.input is not None:
        return again(arguments.input, milliseconds)
    if arguments.floods is not None:
        return slowest(arguments.floods)
    if arguments.folder is not None:
        fuzz(arguments.folder, seconds=arguments.seconds, milliseconds=milliseconds)
        return 0
    return watch(arguments.seconds, milliseconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
