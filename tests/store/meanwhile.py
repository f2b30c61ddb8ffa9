"""Something done on another connection while this one holds what it needs."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine, text

Returned = TypeVar("Returned")
LOOKS_MAX = 20_000


def meanwhile(engine: Engine, deed: Callable[[Connection], Returned]) -> Future[Returned]:
    """Do the deed in a transaction of its own, on another thread, until it waits for a lock."""

    begun: Future[int] = Future()

    def run() -> Returned:
        with engine.connect() as connection:
            begun.set_result(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
            returned = deed(connection)
            connection.commit()
            return returned

    pool = ThreadPoolExecutor(1)
    future = pool.submit(run)
    pool.shutdown(wait=False)
    pid = begun.result()
    with engine.connect() as watching:
        for _ in range(LOOKS_MAX):
            if future.done() or _waits(watching, pid):
                return future
    raise AssertionError("the other connection neither ended nor waited for a lock")


def _waits(watching: Connection, pid: int) -> bool:
    query = text("SELECT cardinality(pg_blocking_pids(CAST(:pid AS integer))) > 0")
    found = bool(watching.execute(query, {"pid": pid}).scalar())
    watching.rollback()
    return found
