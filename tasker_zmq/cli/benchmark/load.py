"""The handlers of the load: they do nothing but hand a small result on, or take one second.

A worker process serves this module. Results are about 150 bytes of JSON.
"""

import time
from typing import Any, Final

from tasker_zmq import Context, step, workflow

PAD: Final = "x" * 110
SLOW_SECONDS: Final = 1.0
LEAF: Final = "bench.leaf"
JOIN: Final = "bench.join"
SLOW: Final = "bench.slow"


def _result(order_id: int) -> dict[str, Any]:
    return {"order_id": order_id, "accepted": True, "pad": PAD}


@step
def validate(order: dict[str, Any]) -> dict[str, Any]:
    return _result(order["id"])


@step
def reserve(validate: dict[str, Any]) -> dict[str, Any]:
    return _result(validate["order_id"])


@step
def charge(reserve: dict[str, Any]) -> dict[str, Any]:
    return _result(reserve["order_id"])


@step
def ship(charge: dict[str, Any]) -> dict[str, Any]:
    return _result(charge["order_id"])


@step(handler=LEAF)
def leaf() -> dict[str, Any]:
    return _result(1)


@step(handler=JOIN)
def join(ctx: Context) -> dict[str, Any]:
    return {"parents": len(ctx.previous_results)}


@step(handler=SLOW)
def slow() -> dict[str, Any]:
    time.sleep(SLOW_SECONDS)
    return _result(1)


chain4 = workflow("bench/chain4@1.0.0", ship)
single = workflow("bench/single@1.0.0", leaf)
nap = workflow("bench/nap@1.0.0", slow)
joined = workflow("bench/joined@1.0.0", join)


def fan(name: str, width: int, *, head: bool) -> dict[str, Any]:
    """A template: `width` steps side by side, behind one if `head`; one awaits them all."""
    names = [f"m{number}" for number in range(width)]
    steps: list[dict[str, Any]] = [{"name": "head", "handler": {"callable": LEAF}}] if head else []
    before = {"dependencies": ["head"]} if head else {}
    steps += [{"name": each, "handler": {"callable": LEAF}, **before} for each in names]
    steps.append({"name": "join", "handler": {"callable": JOIN}, "dependencies": names})
    return {"name": name, "namespace_name": "bench", "version": "1.0.0", "steps": steps}
