"""Chains of four jobs on PgQueuer: run by the Python of its own environment, none of ours imported.

    python pgqueuer_chain.py URL install
    python pgqueuer_chain.py URL serve
    python pgqueuer_chain.py URL throughput|latency SECONDS

`serve` is a worker: it says {"ready": true} and works until it is told to stop. The others wait
for a line on stdin once they are ready, and tell the figures as one line of JSON. As PgQueuer's
pages recommend: asyncpg, one connection for the manager and a pool for those who enqueue, its
settings of autovacuum, durable tables. Each job enqueues the next, with context and all results.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job

PAD: Final = "x" * 110  # a result of about 150 bytes
NOTE: Final = "n" * 460  # a context of about 500 bytes
STEPS: Final = ("validate", "reserve", "charge", "ship")
BATCH_SIZE: Final = 50
POOL_SIZE_MAX: Final = 10
DEQUEUE_SECONDS: Final = 10
WARM_UP_CHAINS: Final = 50
CHAINS_MIN: Final = 20
ENQUEUED_AT_ONCE: Final = 1_000
LOOK_AGAIN_SECONDS: Final = 0.02
FROM_THE_LOG: Final = (
    "SELECT extract(epoch FROM min(created))::float8 AS started, "
    "extract(epoch FROM max(created))::float8 AS ended FROM pgqueuer_log WHERE job_id > $1"
)
Done = Callable[[int], None]


def say(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)  # noqa: T201 - the runner reads it


def _payload(number: int) -> bytes:
    return json.dumps({"order": {"id": number, "note": NOTE}, "results": {}}).encode()


def _handler(queries: Queries, step: str, done: Done) -> Callable[[Job], Any]:
    """Do the step, and enqueue the next one with what there is so far."""
    later = STEPS[STEPS.index(step) + 1 :]

    async def handle(job: Job) -> None:
        carried = json.loads(job.payload or b"{}")
        number = carried["order"]["id"]
        carried["results"][step] = {"order_id": number, "accepted": True, "pad": PAD}
        if later:
            await queries.enqueue(later[0], json.dumps(carried).encode())
        else:
            done(number)

    return handle


async def manager(url: str, pool: asyncpg.Pool, done: Done) -> PgQueuer:
    """A manager with a connection of its own that serves all four steps."""
    served = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))
    queries = Queries(AsyncpgPoolDriver(pool))
    for step in STEPS:
        served.entrypoint(step)(_handler(queries, step, done))
    return served


async def run(served: PgQueuer) -> None:
    await served.run(batch_size=BATCH_SIZE, dequeue_timeout=timedelta(seconds=DEQUEUE_SECONDS))


async def serve(url: str) -> None:
    """Work until a signal comes."""
    async with asyncpg.create_pool(url, min_size=2, max_size=POOL_SIZE_MAX) as pool:
        served = await manager(url, pool, lambda _number: None)
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, served.shutdown.set)
        say({"ready": True})
        await run(served)


async def _drained(pool: asyncpg.Pool, queries: Queries, chains: int) -> None:
    """Enqueue so many chains, and wait until no job is left."""
    for first in range(0, chains, ENQUEUED_AT_ONCE):
        numbers = range(first, min(chains, first + ENQUEUED_AT_ONCE))
        payloads: list[bytes | None] = [_payload(each) for each in numbers]
        await queries.enqueue([STEPS[0]] * len(numbers), payloads, [0] * len(numbers))
    while await pool.fetchval("SELECT EXISTS (SELECT FROM pgqueuer)"):  # noqa: ASYNC110 - rows
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


async def throughput(url: str, seconds: float) -> None:
    """Many chains at once, for the workers; a first few say how many fit into the time."""
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))
        await _drained(pool, queries, WARM_UP_CHAINS)
        started = time.perf_counter()
        await _drained(pool, queries, WARM_UP_CHAINS)
        taken = time.perf_counter() - started
        chains = max(WARM_UP_CHAINS, round(WARM_UP_CHAINS / taken * seconds))
        say({"ready": True})
        await asyncio.to_thread(sys.stdin.readline)
        last = await pool.fetchval("SELECT coalesce(max(job_id), 0) FROM pgqueuer_log")
        await _drained(pool, queries, chains)
        times = dict(await pool.fetchrow(FROM_THE_LOG, last))
    stored = (chains + 2 * WARM_UP_CHAINS) * len(STEPS)
    steps = chains * len(STEPS)
    say({**times, "steps": steps, "steps_stored": stored, "latencies_ms": []})


async def latency(url: str, seconds: float) -> None:
    """One chain at a time, in the process that works, until the last job has been done."""
    over: asyncio.Queue[int] = asyncio.Queue()
    async with asyncpg.create_pool(url, min_size=2, max_size=POOL_SIZE_MAX) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))
        served = await manager(url, pool, over.put_nowait)
        working = asyncio.create_task(run(served))

        async def run_one() -> float:
            started = time.perf_counter()
            await queries.enqueue(STEPS[0], _payload(1))
            await over.get()
            return (time.perf_counter() - started) * 1_000

        warm_up = [await run_one() for _ in range(CHAINS_MIN)]
        say({"ready": True})
        await asyncio.to_thread(sys.stdin.readline)
        started, taken = time.perf_counter(), list[float]()
        while time.perf_counter() < started + seconds or len(taken) < CHAINS_MIN:
            taken.append(await run_one())
        ended = time.perf_counter()
        served.shutdown.set()
        with suppress(asyncio.CancelledError):
            await working
    steps = len(taken) * len(STEPS)
    stored = steps + len(warm_up) * len(STEPS)
    times = {"started": started, "ended": ended}
    say({**times, "steps": steps, "steps_stored": stored, "latencies_ms": taken})


async def install(url: str) -> None:
    """The tables, durable as they are by default, and the recommended settings of autovacuum."""
    connection = await asyncpg.connect(url)
    try:
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        await queries.optimize_autovacuum()
    finally:
        await connection.close()
    say({"ready": True})


def main() -> None:
    """Do what the arguments say."""
    url, role, *rest = sys.argv[1:]
    match role:
        case "install":
            asyncio.run(install(url))
        case "serve":
            asyncio.run(serve(url))
        case "throughput":
            asyncio.run(throughput(url, float(rest[0])))
        case _:
            asyncio.run(latency(url, float(rest[0])))


main()
