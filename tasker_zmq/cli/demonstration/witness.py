"""The shop's own books as a witness: what really happened to goods and money, step by step or not.

It asks SQLite alone, with statements of its own, and knows nothing of what the daemon recorded but
the totals that were to be charged.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tasker_zmq.cli.demonstration.orders import DemoOrder

BUSY_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Hearing:
    """What the books show; `problems` is empty when each order was applied exactly once."""

    reserved: int
    charged: int
    charged_cents: int
    declined: int
    shipped: int
    backordered: int
    problems: tuple[str, ...]


def heard(
    store: Path,
    catalogue: Path,
    *,
    orders: Sequence[DemoOrder],
    totals: Mapping[str, int],
) -> Hearing:
    """Compare the books with the orders; `totals` are the cents that each filled order costs."""
    stocked = {
        each["sku"]: each["on_hand"] for each in json.loads(catalogue.read_text(encoding="utf-8"))
    }
    with closing(sqlite3.connect(store, timeout=BUSY_SECONDS)) as books:
        reservations = books.execute("SELECT order_id, status, lines FROM reservations").fetchall()
        payments = books.execute("SELECT order_id, status, amount_cents FROM payments").fetchall()
        shipments = books.execute("SELECT order_id FROM shipments").fetchall()
        stock = books.execute("SELECT sku, on_hand, reserved FROM stock").fetchall()
    charges = {order_id: cents for order_id, status, cents in payments if status == "charged"}
    problems = [
        *_per_order("reservations", Counter(row[0] for row in reservations), orders),
        *_per_order("payments", Counter(row[0] for row in payments), orders),
        *_per_order("shipments", Counter(row[0] for row in shipments), orders, only_filled=True),
        *_kept_apart(reservations, orders),
        *_charged_right(charges, orders, totals),
        *_stock_adds_up(stocked, reservations, stock),
    ]
    lines = [line for row in reservations for line in json.loads(row[2])]
    return Hearing(
        reserved=len(reservations),
        charged=len(charges),
        charged_cents=sum(charges.values()),
        declined=sum(row[1] == "declined" for row in payments),
        shipped=len(shipments),
        backordered=sum(line["backordered"] for line in lines),
        problems=tuple(problems),
    )


def _per_order(
    what: str, found: Counter[str], orders: Sequence[DemoOrder], *, only_filled: bool = False
) -> Iterator[str]:
    """Exactly one row for each order; where `only_filled`, none for the others."""
    for each in orders:
        wanted = 1 if each.is_filled or not only_filled else 0
        if found[each.order_id] != wanted:
            yield f"{each.order_id} has {found[each.order_id]} {what}, wanted {wanted}"
    for order_id in found.keys() - {each.order_id for each in orders}:
        yield f"{what} of {order_id}, which nobody ordered"


def _kept_apart(
    reservations: Sequence[tuple[str, str, str]], orders: Sequence[DemoOrder]
) -> Iterator[str]:
    wanted = {each.order_id: "shipped" if each.is_filled else "released" for each in orders}
    for order_id, status, _ in reservations:
        if status != wanted.get(order_id, status):
            yield f"the goods of {order_id} are {status}, wanted {wanted[order_id]}"


def _charged_right(
    charges: Mapping[str, int], orders: Sequence[DemoOrder], totals: Mapping[str, int]
) -> Iterator[str]:
    for each in orders:
        wanted = totals.get(each.order_id) if each.is_filled else None
        if charges.get(each.order_id) != wanted:
            found = charges.get(each.order_id)
            yield f"{each.order_id} was charged {found} cents, wanted {wanted}"


def _stock_adds_up(
    stocked: Mapping[str, int],
    reservations: Sequence[tuple[str, str, str]],
    stock: Sequence[tuple[str, int, int]],
) -> Iterator[str]:
    gone: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for _, status, lines in reservations:
        for line in json.loads(lines):
            target = {"shipped": gone, "held": held}.get(status, Counter())
            target[line["sku"]] += line["quantity"]
    for sku, on_hand, reserved in stock:
        wanted = (stocked[sku] - gone[sku], held[sku])
        if (on_hand, reserved) != wanted:
            yield f"{sku}: {on_hand} on hand and {reserved} reserved, wanted {wanted}"
