"""`make sim`: many seeds, each printed when it fails, made smaller and shown with its trace."""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tasker_zmq.store import schema
from tests import databases
from tests.simulation.database import Database
from tests.simulation.options import CORE_FAULTS, FAULTS, Options, draw, smaller
from tests.simulation.simulation import Outcome, simulate

TRACE_LINES = 100
ROUTINE = (" tick ", "WorkerHeartbeat", "HeartbeatReceived")  # what hardly ever explains anything
SHRINKS_MAX = 60
ALL_FAULTS = sorted((*FAULTS, *CORE_FAULTS))


@contextmanager
def fresh_database() -> Iterator[Database]:
    """A database for simulations on the server that the tests would choose."""
    with (
        databases.running(databases.choose(os.environ)) as server,
        databases.database(server, f"tasker_simulation_{os.getpid()}", template=None) as url,
    ):
        schema.upgrade(url)
        database = Database(url)
        try:
            yield database
        finally:
            database.close()


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def shrunk(outcome: Outcome, database: Database) -> Outcome:
    """The smallest simulation found that breaks the same promise."""
    wanted = outcome.violation.promise if outcome.violation else ""
    tries = 0
    going_on = True
    while going_on and tries < SHRINKS_MAX:
        going_on = False
        for options in smaller(outcome.options):
            tries += 1
            again = simulate(options, database)
            if again.violation is not None and again.violation.promise == wanted:
                outcome, going_on = again, True
                break
    return outcome


def report(outcome: Outcome, *, lines: int = TRACE_LINES) -> str:
    """What a person needs to find out what happened."""
    violation = outcome.violation
    telling = [line for line in outcome.trace if not any(word in line for word in ROUTINE)]
    shown = [outcome.options.shown(), *telling[-lines:]]
    shown.append(f"BROKEN {violation}" if violation else "nothing is broken")
    return "\n".join(shown)


def _options(arguments: argparse.Namespace, seed: int) -> Options:
    cores = {} if arguments.cores is None else {"cores": arguments.cores}
    return draw(seed, without=frozenset(arguments.without), **cores)


def main(words: Sequence[str]) -> int:
    """Run the seeds asked for; the exit code is 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="make sim")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--without", nargs="*", default=[], choices=ALL_FAULTS)
    parser.add_argument("--cores", type=int, choices=(1, 2, 3), help="instead of what is drawn")
    parser.add_argument("--whole", action="store_true", help="do not shrink, print all lines")
    arguments = parser.parse_args(words)
    failed: dict[int, str] = {}
    began = time.perf_counter()
    with fresh_database() as database:
        for seed in range(arguments.seed, arguments.seed + arguments.seeds):
            outcome = simulate(_options(arguments, seed), database)
            if outcome.violation is None:
                continue
            failed[seed] = str(outcome.violation)
            say(f"seed {seed} failed: {outcome.violation}")
            if arguments.whole:
                say(report(outcome, lines=1_000_000))
            elif len(failed) == 1:
                say(report(shrunk(outcome, database)))
    took = time.perf_counter() - began
    for seed, violation in failed.items():
        say(f"  make sim SEEDS=1 SEED={seed}    # {violation[:150]}")
    say(f"{took:.1f} s\n{arguments.seeds - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
