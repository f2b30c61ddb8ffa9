"""Chains of four steps on DBOS: run by the Python of its own environment, imports nothing of ours.

    python dbos_chain.py URL throughput|latency SECONDS NAME [THREADS]

Says {"ready": true} when it is warm, waits for a line on stdin, measures, and tells the figures as
one line of JSON. As DBOS's pages show it: a workflow calls its steps, and each is a function.
"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from dbos import DBOS, DBOSConfig

PAD: Final = "x" * 110  # a result of about 150 bytes
NOTE: Final = "n" * 460  # a context of about 500 bytes
STEPS: Final = 4
THREADS: Final = 16
WARM_UP_CHAINS: Final = 30
CHAINS_MIN: Final = 20


def _result(order_id: int) -> dict[str, Any]:
    return {"order_id": order_id, "accepted": True, "pad": PAD}


@DBOS.step()
def validate(order: dict[str, Any]) -> dict[str, Any]:
    return _result(order["id"])


@DBOS.step()
def reserve(validated: dict[str, Any]) -> dict[str, Any]:
    return _result(validated["order_id"])


@DBOS.step()
def charge(reserved: dict[str, Any]) -> dict[str, Any]:
    return _result(reserved["order_id"])


@DBOS.step()
def ship(charged: dict[str, Any]) -> dict[str, Any]:
    return _result(charged["order_id"])


@DBOS.workflow()
def chain4(order: dict[str, Any]) -> dict[str, Any]:
    return ship(charge(reserve(validate(order))))


def run_one(number: int) -> float:
    """Run a chain to its end; milliseconds."""
    started = time.perf_counter()
    chain4({"id": number, "note": NOTE})
    return (time.perf_counter() - started) * 1_000


def many(threads: int, *, seconds: float) -> int:
    """Run chains on so many threads for so long; how many were begun, all of them ended."""
    until = time.perf_counter() + seconds
    numbers = iter(range(sys.maxsize))
    lock = threading.Lock()

    def keep_running(_: int) -> int:
        done = 0
        while time.perf_counter() < until:
            with lock:
                number = next(numbers)
            run_one(number)
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(keep_running, range(threads)))


def say(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)  # noqa: T201 - the runner reads it


def main() -> None:
    """Warm up, wait for the word, measure."""
    url, workload, seconds, name, *rest = sys.argv[1:]
    threads = int(rest[0]) if rest else THREADS
    config: DBOSConfig = {
        "name": "bench-chain4",
        "system_database_url": url,
        "executor_id": name,
        "application_version": "1",
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    warm_up = [run_one(each) for each in range(WARM_UP_CHAINS)]
    say({"ready": True})
    sys.stdin.readline()
    started, taken = time.perf_counter(), list[float]()
    if workload == "throughput":
        chains = many(threads, seconds=float(seconds))
    else:
        while time.perf_counter() < started + float(seconds) or len(taken) < CHAINS_MIN:
            taken.append(run_one(len(taken)))
        chains = len(taken)
    say(
        {
            "started": started,
            "ended": time.perf_counter(),
            "steps": chains * STEPS,
            "steps_stored": (chains + len(warm_up)) * STEPS,
            "latencies_ms": taken,
        }
    )
    DBOS.destroy()


main()
