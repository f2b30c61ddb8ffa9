from tasker_zmq import PermanentError, step, workflow


@step
def validate_order(order):
    if order["quantity"] < 1:
        raise PermanentError("an order wants at least one piece")


@step(after=validate_order, attempts=3)
def reserve_inventory(order):
    return {"reserved": order["quantity"]}


@step(after=validate_order, attempts=5, backoff="1s..60s")
def charge_payment(order):
    return {"charged_cents": order["quantity"] * order["price_cents"]}


@step(attempts=3)
def ship_order(order, reserve_inventory, charge_payment):
    return {"parcel": order["sku"], **reserve_inventory, **charge_payment}


fulfil = workflow("orders/fulfil_order@1.0.0", ship_order)
