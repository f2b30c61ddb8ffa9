"""The four steps of config/tasks/order_fulfillment.yaml, as classes and as plain functions.

What they decide lies in orders.py, what they write in shop.py. A transient failure becomes a
RetryableError, one that no repetition mends a PermanentError.
"""

from collections.abc import Mapping
from typing import Any, Final

from tasker_zmq import Context, PermanentError, RetryableError, StepHandler, handler
from tasker_zmq.worker.handlers import Sequence, StepView, Task
from workers.order_fulfillment.orders import (
    CardAnswer,
    OrderError,
    lines_of,
    shipping_cents,
    subtotal_cents,
)
from workers.order_fulfillment.shop import BooksError, Step, read_catalogue, shop_of

RETRY_AFTER_SECONDS: Final = 0.25


@handler("OrderFulfillment::StepHandlers::ValidateOrderHandler")
class ValidateOrder(StepHandler):
    """Checks products, prices and carrier, and says what the order costs."""

    def process(self, task: Task, sequence: Sequence, step: StepView) -> dict[str, Any]:
        return price_order(task.context)


def price_order(order: Mapping[str, Any]) -> dict[str, Any]:
    """The order as the later steps use it, with its total in cents."""
    try:
        lines = lines_of(order)
        subtotal = subtotal_cents(lines, read_catalogue())
        shipping = shipping_cents(order["shipping"]["carrier"], subtotal)
    except OrderError as error:
        raise PermanentError(str(error)) from None
    return {
        "order_id": order["order_id"],
        "pieces": sum(line.quantity for line in lines),
        "subtotal_cents": subtotal,
        "shipping_cents": shipping,
        "total_cents": subtotal + shipping,
    }


@handler("order_fulfillment.reserve_inventory")
def reserve_inventory(
    order_id: str, context: Mapping[str, Any], ctx: Context, *, accept_backorder: bool = False
) -> dict[str, Any]:
    """Set the goods aside; when too few are there, the rest is owed, or the order ends here."""
    step = Step(idempotency_key=ctx.idempotency_key, order_id=order_id)
    try:
        reservation = shop_of(ctx.config).reserve(
            step, lines_of(context), accept_backorder=accept_backorder
        )
    except (OrderError, BooksError) as error:
        raise PermanentError(str(error)) from None
    return {
        "reservation_id": reservation.reservation_id,
        "reserved": {each.sku: each.quantity for each in reservation.lines},
        "backordered": {
            each.sku: each.backordered for each in reservation.lines if each.backordered
        },
    }


@handler("order_fulfillment.process_payment")
def charge_card(
    payment: Mapping[str, Any],
    validate_order: Mapping[str, Any],
    reserve_inventory: Mapping[str, Any],
    *,
    ctx: Context,
) -> dict[str, Any]:
    """Charge the card, once however often the step runs."""
    step = Step(idempotency_key=ctx.idempotency_key, order_id=validate_order["order_id"])
    amount_cents = validate_order["total_cents"]
    try:
        charged = shop_of(ctx.config).charge(
            step,
            card=payment["token"],
            amount_cents=amount_cents,
            reservation_id=reserve_inventory["reservation_id"],
        )
    except BooksError as error:
        raise PermanentError(str(error)) from None
    if charged.answer is CardAnswer.UNREACHABLE:
        raise RetryableError("the bank does not answer", retry_after=RETRY_AFTER_SECONDS)
    if charged.answer is CardAnswer.DECLINED:
        raise PermanentError("card declined")
    return {"payment_id": charged.payment_id, "amount_cents": amount_cents}


@handler("OrderFulfillment::StepHandlers::ShipOrderHandler")
class ShipOrder(StepHandler):
    """Hands the reserved goods to the carrier."""

    def process(self, task: Task, sequence: Sequence, step: StepView) -> dict[str, Any]:
        carrier = task.context["shipping"]["carrier"]
        reserved = sequence["reserve_inventory"]
        asked = Step(idempotency_key=step.ctx.idempotency_key, order_id=task.context["order_id"])
        try:
            shipment_id = shop_of(step.handler_config).ship(
                asked, carrier=carrier, reservation_id=reserved["reservation_id"]
            )
        except BooksError as error:
            raise PermanentError(str(error)) from None
        if shipment_id is None:
            raise RetryableError("the carrier does not answer", retry_after=RETRY_AFTER_SECONDS)
        return {
            "shipment_id": shipment_id,
            "tracking_number": f"{carrier.partition('_')[0].upper()}-{shipment_id:06d}",
            "to_follow": reserved["backordered"],
        }
