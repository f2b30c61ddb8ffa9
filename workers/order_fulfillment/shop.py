"""The shop's own books in SQLite: stock, reservations, payments, shipments.

Several worker processes write here at once. Whoever writes takes the write lock first, so what is
read before a decision is still so when it is written. An idempotency key is applied once: the
second time it brings back the first outcome.
"""

import json
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from workers.order_fulfillment.orders import (
    Allotment,
    CardAnswer,
    Line,
    Product,
    allotted,
    card_answer,
    refused_calls,
)

STORE_VARIABLE: Final = "TASKER_DEMO_STORE"
STORE_NAME: Final = "order_fulfillment.sqlite3"
BUSY_SECONDS: Final = 30.0
CATALOGUE_FILE: Final = Path(__file__).resolve().parent / "catalogue.json"

SCHEMA: Final = """
CREATE TABLE stock (
    sku TEXT PRIMARY KEY,
    on_hand INTEGER NOT NULL,
    reserved INTEGER NOT NULL DEFAULT 0,
    CHECK (reserved BETWEEN 0 AND on_hand)
);
CREATE TABLE reservations (
    reservation_id INTEGER PRIMARY KEY,
    idempotency_key TEXT NOT NULL UNIQUE,
    order_id TEXT NOT NULL,
    lines TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('held', 'released', 'shipped'))
);
CREATE TABLE payments (
    payment_id INTEGER PRIMARY KEY,
    idempotency_key TEXT NOT NULL UNIQUE,
    order_id TEXT NOT NULL,
    amount_cents INTEGER NOT NULL CHECK (amount_cents > 0),
    status TEXT NOT NULL CHECK (status IN ('charged', 'declined'))
);
CREATE TABLE shipments (
    shipment_id INTEGER PRIMARY KEY,
    idempotency_key TEXT NOT NULL UNIQUE,
    order_id TEXT NOT NULL,
    carrier TEXT NOT NULL
);
CREATE TABLE calls (
    idempotency_key TEXT PRIMARY KEY,
    made INTEGER NOT NULL
);
"""


class BooksError(RuntimeError):
    """The books do not allow it: a key without a name, or one that belongs to another order."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """On whose behalf something is done: once per key, for one order."""

    idempotency_key: str
    order_id: str


@dataclass(frozen=True)
class Reservation:
    """Stock that was set aside for an order."""

    reservation_id: int
    lines: tuple[Allotment, ...]


@dataclass(frozen=True)
class Payment:
    """What came of a charge; without an id the bank was not reached, and nothing is recorded."""

    payment_id: int | None
    answer: CardAnswer


@lru_cache(maxsize=1)
def read_catalogue() -> Mapping[str, Product]:
    """The shipped catalogue by stock-keeping unit."""
    entries = json.loads(CATALOGUE_FILE.read_text(encoding="utf-8"))
    return {each["sku"]: Product(**each) for each in entries}


def shop_of(config: Mapping[str, Any]) -> "Shop":
    """The shop whose file `store` in the handler's config names, else TASKER_DEMO_STORE."""
    named = config.get("store") or os.environ.get(STORE_VARIABLE)
    return opened(Path(named).expanduser() if named else _usual_file())


@lru_cache(maxsize=8)
def opened(path: Path) -> "Shop":
    """This process's one connection to the books at `path`: opening costs more than writing."""
    return Shop(path)


def _usual_file() -> Path:
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "tasker-zmq" / STORE_NAME


class Shop:
    """The books in one file, which is made and stocked from the catalogue when it is not there.

    Threads may share it: they take turns.
    """

    def __init__(self, path: Path, catalogue: Mapping[str, Product] | None = None) -> None:
        if not path.exists():
            _make(path, read_catalogue() if catalogue is None else catalogue)
        self._turn = threading.Lock()
        self._books = _connect(path)

    def close(self) -> None:
        with self._turn:
            self._books.close()

    def reserve(self, step: Step, lines: Iterable[Line], *, accept_backorder: bool) -> Reservation:
        """Set stock aside; raises OrderError, and sets nothing aside, when it does not suffice."""
        with self._writing() as books:
            _count_call(books, step)
            known = _known(books, "reservations", step)
            if known is not None:
                return Reservation(known["reservation_id"], _allotments(known["lines"]))
            found = allotted(lines, _free(books), accept_backorder=accept_backorder)
            for each in found:
                books.execute(
                    "UPDATE stock SET reserved = reserved + ? WHERE sku = ?",
                    (each.quantity, each.sku),
                )
            written = books.execute(
                "INSERT INTO reservations (idempotency_key, order_id, lines, status)"
                " VALUES (?, ?, ?, 'held')",
                (step.idempotency_key, step.order_id, json.dumps([asdict(each) for each in found])),
            )
            return Reservation(_new_id(written), found)

    def charge(self, step: Step, *, card: str, amount_cents: int, reservation_id: int) -> Payment:
        """Ask the bank; when it declines, what was reserved goes back on the shelf."""
        with self._writing() as books:
            call = _count_call(books, step)
            known = _known(books, "payments", step)
            if known is not None:
                return Payment(known["payment_id"], CardAnswer(known["status"]))
            answer = card_answer(card, call=call)
            if answer is CardAnswer.UNREACHABLE:
                return Payment(None, answer)
            written = books.execute(
                "INSERT INTO payments (idempotency_key, order_id, amount_cents, status)"
                " VALUES (?, ?, ?, ?)",
                (step.idempotency_key, step.order_id, amount_cents, answer.value),
            )
            if answer is CardAnswer.DECLINED:
                _move(books, reservation_id, "released")
            return Payment(_new_id(written), answer)

    def ship(self, step: Step, *, carrier: str, reservation_id: int) -> int | None:
        """The shipment's id, None when the carrier was not reached; the goods leave the stock."""
        with self._writing() as books:
            call = _count_call(books, step)
            known = _known(books, "shipments", step)
            if known is not None:
                return int(known["shipment_id"])
            if call <= refused_calls(carrier):
                return None
            written = books.execute(
                "INSERT INTO shipments (idempotency_key, order_id, carrier) VALUES (?, ?, ?)",
                (step.idempotency_key, step.order_id, carrier),
            )
            _move(books, reservation_id, "shipped")
            return _new_id(written)

    def free(self) -> dict[str, int]:
        """How many pieces of each product nobody has reserved."""
        with self._turn:
            return _free(self._books)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._turn:
            self._books.execute("BEGIN IMMEDIATE")
            try:
                yield self._books
            except BaseException:
                self._books.execute("ROLLBACK")
                raise
            self._books.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    books = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    books.row_factory = sqlite3.Row
    # With write-ahead logging a killed process loses nothing; only a power cut may cost the newest.
    books.execute("PRAGMA synchronous = NORMAL")
    return books


def _make(path: Path, catalogue: Mapping[str, Product]) -> None:
    """Make the file under another name and link it, whole, to its own: the first one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".shop-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        with closing(sqlite3.connect(draft, isolation_level=None)) as books:
            books.execute("PRAGMA journal_mode = WAL")
            books.executescript(f"BEGIN; {SCHEMA} COMMIT;")
            books.executemany(
                "INSERT INTO stock (sku, on_hand) VALUES (?, ?)",
                [(each.sku, each.on_hand) for each in catalogue.values()],
            )
        try:
            os.link(draft, path)
        except FileExistsError:
            return


def _known(books: sqlite3.Connection, table: str, step: Step) -> sqlite3.Row | None:
    """The row that this key has left in `table` already."""
    statement = f"SELECT * FROM {table} WHERE idempotency_key = ?"  # noqa: S608 - our own tables
    row: sqlite3.Row | None = books.execute(statement, (step.idempotency_key,)).fetchone()
    if row is not None and row["order_id"] != step.order_id:
        raise BooksError(
            f"the key '{step.idempotency_key}' was used for order {row['order_id']}, now for "
            f"{step.order_id}; a key belongs to one step of one order"
        )
    return row


def _count_call(books: sqlite3.Connection, step: Step) -> int:
    """How often this key has asked by now: how often its step ran."""
    if not step.idempotency_key:
        raise BooksError("no idempotency key; without one a repeated step would be applied twice")
    books.execute(
        "INSERT INTO calls (idempotency_key, made) VALUES (?, 1)"
        " ON CONFLICT (idempotency_key) DO UPDATE SET made = made + 1",
        (step.idempotency_key,),
    )
    row = books.execute(
        "SELECT made FROM calls WHERE idempotency_key = ?", (step.idempotency_key,)
    ).fetchone()
    return int(row["made"])


def _free(books: sqlite3.Connection) -> dict[str, int]:
    rows = books.execute("SELECT sku, on_hand - reserved AS free FROM stock")
    return {row["sku"]: row["free"] for row in rows}


def _move(books: sqlite3.Connection, reservation_id: int, status: str) -> None:
    """Take a held reservation's goods back on the shelf, or out of the house."""
    row = books.execute(
        "SELECT lines FROM reservations WHERE reservation_id = ? AND status = 'held'",
        (reservation_id,),
    ).fetchone()
    if row is None:
        raise BooksError(f"reservation {reservation_id} is not held, so it cannot be {status}")
    for each in _allotments(row["lines"]):
        gone = each.quantity if status == "shipped" else 0
        books.execute(
            "UPDATE stock SET reserved = reserved - ?, on_hand = on_hand - ? WHERE sku = ?",
            (each.quantity, gone, each.sku),
        )
    books.execute(
        "UPDATE reservations SET status = ? WHERE reservation_id = ?", (status, reservation_id)
    )


def _allotments(text: str) -> tuple[Allotment, ...]:
    return tuple(Allotment(**each) for each in json.loads(text))


def _new_id(written: sqlite3.Cursor) -> int:
    if written.lastrowid is None:
        raise BooksError("SQLite gave no id for a new row")
    return written.lastrowid
