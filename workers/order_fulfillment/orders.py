"""What an order costs, what the warehouse can give, what a card's bank says: without any I/O."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

FLAKY: Final = re.compile(r"_flaky_(\d{1,2})$")
DECLINED: Final = "tok_declined"


class OrderError(ValueError):
    """An order that can never be filled as it stands; the message says why."""


@dataclass(frozen=True)
class Product:
    """A product of the catalogue; money is in integer cents."""

    sku: str
    title: str
    price_cents: int
    on_hand: int


@dataclass(frozen=True)
class Carrier:
    """What a carrier asks for one shipment; free from a subtotal on, where that is set."""

    price_cents: int
    free_from_cents: int | None = None


CARRIERS: Final[Mapping[str, Carrier]] = {
    "post": Carrier(490, free_from_cents=10_000),
    "courier": Carrier(990),
    "bicycle": Carrier(290),
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One product of an order."""

    sku: str
    quantity: int
    unit_price_cents: int

    @property
    def cents(self) -> int:
        return self.quantity * self.unit_price_cents


class CardAnswer(StrEnum):
    """What came of asking a card's bank."""

    CHARGED = "charged"
    DECLINED = "declined"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Allotment:
    """What the warehouse sets aside of one product, and what it owes."""

    sku: str
    quantity: int
    backordered: int


def lines_of(order: Mapping[str, Any]) -> tuple[Line, ...]:
    """The order's lines, those of one product put together; two prices for one are refused."""
    found: dict[str, Line] = {}
    for each in order["lines"]:
        line = Line(**each)
        if line.quantity < 1:
            raise OrderError(f"{line.sku}: wanted at least 1, found {line.quantity}")
        known = found.get(line.sku)
        if known and known.unit_price_cents != line.unit_price_cents:
            raise OrderError(f"{line.sku}: the order names two prices for it; keep one")
        quantity = line.quantity + (known.quantity if known else 0)
        found[line.sku] = Line(
            sku=line.sku, quantity=quantity, unit_price_cents=line.unit_price_cents
        )
    if not found:
        raise OrderError("the order has no lines; add one")
    return tuple(found.values())


def subtotal_cents(lines: Iterable[Line], catalogue: Mapping[str, Product]) -> int:
    """What the lines cost; a product or a price that the catalogue does not have is refused."""
    subtotal = 0
    for line in lines:
        product = catalogue.get(line.sku)
        if product is None:
            raise OrderError(f"{line.sku}: no such product; the catalogue has {len(catalogue)}")
        if product.price_cents != line.unit_price_cents:
            raise OrderError(
                f"{line.sku}: the order says {line.unit_price_cents} cents, the catalogue "
                f"{product.price_cents}; ask the customer again"
            )
        subtotal += line.cents
    return subtotal


def shipping_cents(carrier: str, subtotal: int) -> int:
    """What `carrier` asks for a shipment worth `subtotal` cents."""
    name = FLAKY.sub("", carrier)
    known = CARRIERS.get(name)
    if known is None:
        raise OrderError(f"no carrier '{carrier}'; there are {', '.join(CARRIERS)}")
    free_from = known.free_from_cents
    return 0 if free_from is not None and subtotal >= free_from else known.price_cents


def allotted(
    lines: Iterable[Line], free: Mapping[str, int], *, accept_backorder: bool
) -> tuple[Allotment, ...]:
    """What is set aside when `free` pieces are left; raises OrderError if owing is not accepted."""
    found = []
    for line in lines:
        here = min(line.quantity, free.get(line.sku, 0))
        if here < line.quantity and not accept_backorder:
            raise OrderError(
                f"out of stock: {line.sku}, wanted {line.quantity}, found {here}; "
                "order fewer, or accept a backorder"
            )
        found.append(Allotment(line.sku, here, line.quantity - here))
    return tuple(found)


def refused_calls(name: str) -> int:
    """How many calls fail before one succeeds: 2 for `tok_flaky_2` or `courier_flaky_2`."""
    found = FLAKY.search(name)
    return int(found[1]) if found else 0


def card_answer(token: str, *, call: int) -> CardAnswer:
    """What the bank says to call number `call` (from 1) about the card behind `token`."""
    if call <= refused_calls(token):
        return CardAnswer.UNREACHABLE
    return CardAnswer.DECLINED if token.startswith(DECLINED) else CardAnswer.CHARGED
