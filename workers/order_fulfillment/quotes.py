"""The four steps of config/tasks/quote_order.yaml: a diamond that only reads."""

from collections.abc import Mapping
from typing import Any

from tasker_zmq import Context, PermanentError, handler
from workers.order_fulfillment.orders import (
    CARRIERS,
    OrderError,
    lines_of,
    shipping_cents,
    subtotal_cents,
)
from workers.order_fulfillment.shop import read_catalogue, shop_of


@handler("order_fulfillment.price_lines")
def price_lines(context: Mapping[str, Any]) -> dict[str, Any]:
    """What the goods cost, and how many of each are wanted."""
    try:
        lines = lines_of(context)
        subtotal = subtotal_cents(lines, read_catalogue())
    except OrderError as error:
        raise PermanentError(str(error)) from None
    return {"subtotal_cents": subtotal, "wanted": {each.sku: each.quantity for each in lines}}


@handler("order_fulfillment.compare_carriers")
def compare_carriers(price_lines: Mapping[str, Any]) -> dict[str, int]:
    """What each carrier asks, the cheapest first."""
    prices = {name: shipping_cents(name, price_lines["subtotal_cents"]) for name in CARRIERS}
    return dict(sorted(prices.items(), key=lambda each: each[1]))


@handler("order_fulfillment.look_up_stock")
def look_up_stock(price_lines: Mapping[str, Any], ctx: Context) -> dict[str, int]:
    """How many of each product are missing; empty when all are there."""
    free = shop_of(ctx.config).free()
    missing = {sku: wanted - free.get(sku, 0) for sku, wanted in price_lines["wanted"].items()}
    return {sku: pieces for sku, pieces in missing.items() if pieces > 0}


@handler("order_fulfillment.make_quote")
def make_quote(
    price_lines: Mapping[str, Any],
    compare_carriers: Mapping[str, int],
    look_up_stock: Mapping[str, int],
) -> dict[str, Any]:
    """The offer: the goods with the cheapest carrier, and what would have to follow later."""
    carrier, shipping = min(compare_carriers.items(), key=lambda each: each[1])
    return {
        "carrier": carrier,
        "total_cents": price_lines["subtotal_cents"] + shipping,
        "to_follow": dict(look_up_stock),
    }
