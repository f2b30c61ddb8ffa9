"""`make sim-planted`: how many seeds it takes to find each bug that was planted."""

import argparse
import sys
from collections.abc import Sequence

from tests.simulation.database import Database
from tests.simulation.options import draw
from tests.simulation.planted import PLANTED, Planted
from tests.simulation.run import fresh_database, say
from tests.simulation.simulation import Outcome, simulate

SEEDS_MAX = 200


def hunt(
    planted: Planted,
    database: Database,
    *,
    seeds: range = range(1, SEEDS_MAX + 1),
    without: frozenset[str] = frozenset(),
) -> tuple[int, Outcome] | None:
    """The first seed that fails with the bug and does not fail without it."""
    for seed in seeds:
        options = draw(seed, without=without, rates=planted.rates, **planted.fixed)
        database.dispose()  # its connections have prepared the statements as they were
        with planted.plant():
            outcome = simulate(options, database)
            database.dispose()
        if outcome.violation is not None and simulate(options, database).violation is None:
            return seed, outcome
    return None


def main(words: Sequence[str]) -> int:
    """Hunt for all bugs, or for those with a word in their name; 1 when one is not found."""
    parser = argparse.ArgumentParser(prog="make sim-planted")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--without", nargs="*", default=[])
    arguments = parser.parse_args(words)
    wanted = [
        each
        for each in PLANTED
        if not arguments.names or any(word in each.name for word in arguments.names)
    ]
    found = 0
    with fresh_database() as database:
        for planted in wanted:
            hit = hunt(planted, database, without=frozenset(arguments.without))
            if hit is None:
                say(f"NOT FOUND in {SEEDS_MAX} seeds: {planted.name}")
                continue
            found += 1
            say(f"{planted.name}: seed {hit[0]}, {str(hit[1].violation)[:110]}")
    say(f"{found} passed, {len(wanted) - found} failed")
    return 0 if found == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
