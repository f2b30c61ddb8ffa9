"""The demo's judge: the orders it chooses, and the witness that finds what was not done once."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tasker_zmq.cli.demonstration.orders import DemoOrder, chosen, expected_states, read_orders
from tasker_zmq.cli.demonstration.shipped import find_shipped
from tasker_zmq.cli.demonstration.witness import Hearing, heard
from tasker_zmq.domain.states import TaskState
from workers.order_fulfillment.orders import Line, Product
from workers.order_fulfillment.shop import Shop, Step

PRODUCT = Product("A", "Apple", 100, 10)
FILLED = DemoOrder(context={"order_id": "ORD-1"}, state=TaskState.COMPLETE, retries=0)
DECLINED = DemoOrder(context={"order_id": "ORD-2"}, state=TaskState.ERROR, retries=0)
CHARGE_AGAIN = (
    "INSERT INTO payments (idempotency_key, order_id, amount_cents, status)"
    " VALUES ('again', 'ORD-1', 200, 'charged')"
)


def step(order_id: str, name: str) -> Step:
    return Step(idempotency_key=f"{order_id}-{name}", order_id=order_id)


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """The books after one filled and one declined order."""
    path = tmp_path / "shop.sqlite3"
    with closing(Shop(path, {"A": PRODUCT})) as shop:
        for order_id, card in (("ORD-1", "tok_visa"), ("ORD-2", "tok_declined")):
            line = Line(sku="A", quantity=2, unit_price_cents=100)
            kept = shop.reserve(step(order_id, "r"), [line], accept_backorder=False)
            shop.charge(
                step(order_id, "p"),
                card=card,
                amount_cents=200,
                reservation_id=kept.reservation_id,
            )
        shop.ship(step("ORD-1", "s"), carrier="post", reservation_id=1)
    return path


def hearing(books: Path) -> Hearing:
    catalogue = books.with_name("catalogue.json")
    catalogue.write_text(json.dumps([{"sku": "A", "on_hand": 10}]), encoding="utf-8")
    return heard(books, catalogue, orders=[FILLED, DECLINED], totals={"ORD-1": 200, "ORD-2": 200})


def test_the_witness_has_nothing_to_say_against_what_was_done_once(books: Path) -> None:
    found = hearing(books)
    assert found.problems == ()
    assert (found.reserved, found.charged, found.declined, found.shipped) == (2, 1, 1, 1)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (CHARGE_AGAIN, "ORD-1 has 2 payments, wanted 1"),
        ("UPDATE payments SET amount_cents = 201", "ORD-1 was charged 201 cents, wanted 200"),
        ("DELETE FROM shipments", "ORD-1 has 0 shipments, wanted 1"),
        (
            "INSERT INTO shipments (idempotency_key, order_id, carrier) VALUES ('x', 'ORD-2', 'p')",
            "ORD-2 has 1 shipments, wanted 0",
        ),
        ("UPDATE stock SET on_hand = 9", "A: 9 on hand and 0 reserved, wanted (8, 0)"),
        (
            "UPDATE reservations SET status = 'held' WHERE order_id = 'ORD-2'",
            "the goods of ORD-2 are held, wanted released",
        ),
        (
            "UPDATE reservations SET order_id = 'ORD-9' WHERE order_id = 'ORD-2'",
            "reservations of ORD-9, which nobody ordered",
        ),
    ],
)
def test_the_witness_tells_what_was_not_done_exactly_once(
    books: Path, wrong: str, told: str
) -> None:
    with closing(sqlite3.connect(books)) as connection, connection:
        connection.execute(wrong)
    assert told in hearing(books).problems


def test_the_same_seed_chooses_the_same_orders_and_no_id_comes_twice() -> None:
    shipped = read_orders(find_shipped().orders)
    first, second = (chosen(shipped, 80, seed=3) for _ in range(2))
    assert first == second
    assert len({each.order_id for each in first}) == 80
    assert chosen(shipped, 80, seed=4) != first


def test_without_a_seed_the_first_orders_are_the_files() -> None:
    shipped = read_orders(find_shipped().orders)
    assert chosen(shipped, len(shipped), seed=None) == shipped
    assert expected_states(shipped) == {"complete": len(shipped) - 1, "error": 1}
