"""The shop's books: each key once, whoever else writes at the same time."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from workers.order_fulfillment.orders import CardAnswer, Line, Product
from workers.order_fulfillment.shop import BooksError, Shop, Step

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = {"A": Product("A", "Apple", 100, 50), "B": Product("B", "Bell", 900, 1)}
APPLE = Line(sku="A", quantity=2, unit_price_cents=100)
RESERVE_MANY = """
import sys
from pathlib import Path
from workers.order_fulfillment.orders import Line
from workers.order_fulfillment.shop import Shop, Step
shop = Shop(Path(sys.argv[1]))
for number in range(20):
    step = Step(idempotency_key=f"key-{number}", order_id=f"ORD-{number}")
    line = Line(sku="TEA-ASSAM", quantity=1, unit_price_cents=1290)
    shop.reserve(step, [line], accept_backorder=False)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.sqlite3"


@pytest.fixture
def shop(path: Path) -> Iterator[Shop]:
    with closing(Shop(path, CATALOGUE)) as made:
        yield made


def step(key: str, order_id: str = "ORD-1") -> Step:
    return Step(idempotency_key=key, order_id=order_id)


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as books:
        return int(books.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


def test_a_key_reserves_once_and_brings_the_first_outcome_back(shop: Shop) -> None:
    first = shop.reserve(step("r"), [APPLE], accept_backorder=False)
    assert shop.reserve(step("r"), [APPLE], accept_backorder=False) == first
    assert shop.free() == {"A": 48, "B": 1}


def test_a_key_charges_and_ships_once(shop: Shop, path: Path) -> None:
    reservation = shop.reserve(step("r"), [APPLE], accept_backorder=False).reservation_id
    payments = [
        shop.charge(step("p"), card="tok_visa", amount_cents=5, reservation_id=reservation)
        for _ in range(3)
    ]
    shipments = [shop.ship(step("s"), carrier="post", reservation_id=reservation) for _ in range(3)]
    assert len(set(payments)) == len(set(shipments)) == 1
    assert (count(path, "payments"), count(path, "shipments")) == (1, 1)
    assert shop.free()["A"] == 48


def test_a_key_belongs_to_one_order(shop: Shop) -> None:
    shop.reserve(step("r"), [APPLE], accept_backorder=False)
    with pytest.raises(BooksError, match="was used for order ORD-1, now for ORD-2"):
        shop.reserve(step("r", "ORD-2"), [APPLE], accept_backorder=False)


def test_without_a_key_nothing_is_written(shop: Shop) -> None:
    with pytest.raises(BooksError, match="no idempotency key"):
        shop.reserve(step(""), [APPLE], accept_backorder=False)
    assert shop.free()["A"] == 50


def test_a_released_reservation_can_be_neither_charged_away_nor_shipped(shop: Shop) -> None:
    reservation = shop.reserve(step("r"), [APPLE], accept_backorder=False).reservation_id
    declined = shop.charge(
        step("p"), card="tok_declined", amount_cents=5, reservation_id=reservation
    )
    assert declined.answer is CardAnswer.DECLINED
    assert shop.free()["A"] == 50
    with pytest.raises(BooksError, match="is not held"):
        shop.ship(step("s"), carrier="post", reservation_id=reservation)


def test_threads_that_want_the_last_piece_get_it_once(shop: Shop, path: Path) -> None:
    bell = Line(sku="B", quantity=1, unit_price_cents=900)
    owed: list[int] = []

    def reserve(number: int) -> None:
        found = shop.reserve(step(f"r{number}", f"ORD-{number}"), [bell], accept_backorder=True)
        owed.append(found.lines[0].backordered)

    threads = [threading.Thread(target=reserve, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(owed) == [0, *[1] * 7]
    assert count(path, "reservations") == 8


def test_processes_that_make_the_books_at_once_and_use_the_same_keys_apply_each_once(
    path: Path,
) -> None:
    command = [sys.executable, "-c", RESERVE_MANY, str(path)]
    running = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [each.wait() for each in running] == [0, 0, 0]
    assert count(path, "reservations") == 20
    with closing(Shop(path)) as shop:
        assert shop.free()["TEA-ASSAM"] == 100_000 - 20
