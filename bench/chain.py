"""The benchmark's workflow: a chain of four steps that do nothing but hand a small result on."""

from typing import Any

from tasker_zmq import step, workflow

PAD = "x" * 100


@step
def validate(order: dict[str, Any]) -> dict[str, Any]:
    return {"order_id": order["id"], "pad": PAD}


@step
def reserve(validate: dict[str, Any]) -> dict[str, Any]:
    return {"order_id": validate["order_id"], "pad": PAD}


@step
def charge(reserve: dict[str, Any]) -> dict[str, Any]:
    return {"order_id": reserve["order_id"], "pad": PAD}


@step
def ship(charge: dict[str, Any]) -> dict[str, Any]:
    return {"order_id": charge["order_id"], "pad": PAD}


chain4 = workflow("bench/chain4@1.0.0", ship)
