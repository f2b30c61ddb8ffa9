"""`make sim`: many seeds, each printed when it fails, made smaller and shown with its trace."""

import argparse
import gc
import multiprocessing
import os
import queue
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tasker_zmq.store import schema
from tests import databases
from tests.simulation.database import Database
from tests.simulation.options import CORE_FAULTS, FAULTS, Options, draw, smaller
from tests.simulation.simulation import Outcome, simulate

TRACE_LINES = 100
ROUTINE = (" tick ", "WorkerHeartbeat", "HeartbeatReceived")  # what hardly ever explains anything
SHRINKS_MAX = 60
Failures = Any  # a queue of processes: (seed, violation), and None when a share is done
ALL_FAULTS = sorted((*FAULTS, *CORE_FAULTS))


@contextmanager
def database_on(server: str) -> Iterator[Database]:
    """A database for simulations, for as long as it is wanted."""
    with databases.database(server, f"tasker_simulation_{os.getpid()}", template=None) as url:
        schema.upgrade(url)
        database = Database(url)
        try:
            yield database
        finally:
            database.close()


@contextmanager
def fresh_database() -> Iterator[Database]:
    """One on the server that the tests would choose."""
    with (
        databases.running(databases.choose(os.environ)) as server,
        database_on(server) as database,
    ):
        yield database


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


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make sim")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--without", nargs="*", default=[], choices=ALL_FAULTS)
    parser.add_argument("--cores", type=int, choices=(1, 2, 3), help="instead of what is drawn")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at the same time")
    parser.add_argument("--whole", action="store_true", help="do not shrink, print all lines")
    return parser.parse_args(words)


def _run_share(arguments: argparse.Namespace, server: str, seeds: range, failed: Failures) -> None:
    """Some of the seeds, on a database of their own; what failed is put into `failed`."""
    gc.freeze()  # what was imported stays: to look through it again and again costs time
    gc.set_threshold(50_000, 20, 20)
    with database_on(server) as database:
        for seed in seeds:
            outcome = simulate(_options(arguments, seed), database)
            if outcome.violation is not None:
                failed.put((seed, str(outcome.violation)))
    failed.put(None)


def _run_all(arguments: argparse.Namespace, server: str) -> dict[int, str]:
    """All seeds, in as many processes as were asked for."""
    spawning = multiprocessing.get_context("spawn")
    found: Failures = spawning.Queue()
    all_seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    count = max(1, min(arguments.processes, arguments.seeds))
    shares = [
        spawning.Process(
            target=_run_share, args=(arguments, server, all_seeds[place::count], found), daemon=True
        )
        for place in range(count)
    ]
    for share in shares:
        share.start()
    failed: dict[int, str] = {}
    running = count
    while running:
        try:
            told = found.get(timeout=1.0)
        except queue.Empty:
            if any(share.exitcode not in {None, 0} for share in shares):
                raise RuntimeError("a process that simulates has died: see above") from None
            continue
        if told is None:
            running -= 1
        else:
            seed, failed[seed] = told[0], told[1]
            say(f"seed {seed} failed: {failed[seed]}")
    return failed


def _explain(arguments: argparse.Namespace, server: str, failed: Sequence[int]) -> None:
    """Show the first one as small as it gets, or all of them as they are."""
    with database_on(server) as database:
        for seed in failed if arguments.whole else failed[:1]:
            outcome = simulate(_options(arguments, seed), database)
            if arguments.whole:
                say(report(outcome, lines=1_000_000))
            else:
                say(report(shrunk(outcome, database)))


def main(words: Sequence[str]) -> int:
    """Run the seeds asked for; the exit code is 1 when one of them failed."""
    arguments = _arguments(words)
    began = time.perf_counter()
    with databases.running(databases.choose(os.environ)) as server:
        failed = _run_all(arguments, server)
        took = time.perf_counter() - began
        _explain(arguments, server, sorted(failed))
    for seed in sorted(failed):
        say(f"  make sim SEEDS=1 SEED={seed}    # {failed[seed][:150]}")
    say(f"{took:.1f} s\n{arguments.seeds - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
