import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq import HandlerDefinitionError, StepHandler, handler, step, workflow
from tasker_zmq.domain.template import Backoff, BackoffKind
from tasker_zmq.worker import durations
from tasker_zmq.worker.steps import definition_of


@step
def validate_order(order: dict[str, Any]) -> dict[str, Any]:
    """Check an order.

    More than that is not said.
    """
    return {"ok": order["id"]}


@step(after=validate_order, attempts=5, backoff="1s..60s", timeout="90s", config={"a": 1})
def charge_payment(order: dict[str, Any]) -> dict[str, Any]:
    return {"paid": order["id"]}


@step(attempts=3)
def ship_order(
    order: dict[str, Any], validate_order: dict[str, Any], charge_payment: dict[str, Any]
) -> list[Any]:
    return [order["id"], validate_order["ok"], charge_payment["paid"]]


def test_a_step_stays_the_plain_function_it_was() -> None:
    assert validate_order({"id": 3}) == {"ok": 3}
    assert ship_order({"id": 1}, {"ok": 2}, {"paid": 3}) == [1, 2, 3]


def test_parents_come_from_after_and_from_parameter_names() -> None:
    found = workflow("orders/ship@1.0.0", ship_order)
    assert found.parents == {
        "validate_order": (),
        "charge_payment": ("validate_order",),
        "ship_order": ("validate_order", "charge_payment"),
    }


def test_a_template_of_the_newer_dialect_says_what_the_code_says() -> None:
    template = workflow(
        "orders/ship@1.0.0", ship_order, description="Ship it", input_schema={"type": "object"}
    ).template()
    charge = template["steps"][1]
    assert (template["namespace_name"], template["name"], template["version"]) == (
        "orders",
        "ship",
        "1.0.0",
    )
    assert (template["description"], template["input_schema"]) == ("Ship it", {"type": "object"})
    assert template["steps"][0]["description"] == "Check an order."
    assert charge == {
        "name": "charge_payment",
        "handler": {
            "callable": f"{__name__}.charge_payment",
            "initialization": {"a": 1},
        },
        "dependencies": ["validate_order"],
        "retry": {
            "max_attempts": 5,
            "backoff": "exponential",
            "backoff_base_ms": 1_000,
            "max_backoff_ms": 60_000,
        },
        "timeout_seconds": 90.0,
    }


@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        ({}, 3),
        ({"attempts": 1}, 1),
        ({"attempts": 4}, 4),
        ({"retry_limit": 0}, 1),
        ({"retry_limit": 3}, 4),
        ({"retryable": False}, 1),
        ({"retryable": True, "retry_limit": 1}, 2),
    ],
)
def test_attempts_count_all_tries_and_retry_limit_those_after_the_first(
    options: dict[str, Any], attempts: int
) -> None:
    def work() -> None: ...

    definition = definition_of(step(**options)(work))
    assert definition is not None
    assert definition.attempts == attempts


def no_such_step() -> None: ...


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"attempts": 2, "retry_limit": 1}, "gives both attempts and retry_limit"),
        ({"attempts": 0}, "at least 1 is run"),
        ({"retry_limit": -1}, "below 0"),
        ({"backoff": "soon"}, "'soon' is not a duration"),
        ({"backoff": "10s..1s"}, "ends below its beginning"),
        ({"backoff": "cubic 1s..2s"}, "known kinds: exponential, linear, constant"),
        ({"timeout": 0}, "is not a timeout"),
        ({"timeout": "8d"}, "is not a duration"),
        ({"after": no_such_step}, "stands after 'no_such_step', which is not a step"),
        ({"atempts": 3}, "no option 'atempts'; did you mean 'attempts'?"),
        ({"handler": "1st"}, "cannot name a handler"),
    ],
)
def test_a_bad_option_is_refused_with_file_and_line(options: dict[str, Any], problem: str) -> None:
    def work() -> None: ...

    with pytest.raises(HandlerDefinitionError, match=re.escape(problem)) as caught:
        step(**options)(work)
    assert re.match(r".*test_handler_api_steps\.py:\d+: ", str(caught.value))


def test_parameters_that_no_name_can_fill_are_refused() -> None:
    with pytest.raises(HandlerDefinitionError, match="'rest' cannot be filled by name"):

        @step
        def variadic(*rest: object) -> None: ...

    with pytest.raises(HandlerDefinitionError, match="'a' cannot be filled by name"):

        @step
        def positional(a: int, /) -> None: ...

    with pytest.raises(HandlerDefinitionError, match="yields"):

        @step
        def generator() -> Any:
            yield 1


def test_a_class_needs_process() -> None:
    with pytest.raises(HandlerDefinitionError, match="must derive StepHandler"):

        @handler("Name::Of")
        class Stranger: ...

    with pytest.raises(HandlerDefinitionError, match=r"define process\(\)"):

        @step
        class Empty(StepHandler): ...


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1s..60s", Backoff(kind=BackoffKind.EXPONENTIAL, base_ms=1_000, ceiling_ms=60_000)),
        ("500ms", Backoff(kind=BackoffKind.CONSTANT, base_ms=500, ceiling_ms=500)),
        ("linear 1s..10s", Backoff(kind=BackoffKind.LINEAR, base_ms=1_000, ceiling_ms=10_000)),
        ("exponential 2s", Backoff(base_ms=2_000, ceiling_ms=30_000)),
        ("1.5m", Backoff(kind=BackoffKind.CONSTANT, base_ms=90_000, ceiling_ms=90_000)),
    ],
)
def test_a_backoff_reads_as_people_write_it(text: str, expected: Backoff) -> None:
    assert durations.backoff(text) == expected


@given(st.text(max_size=30))
def test_any_text_is_a_backoff_or_a_value_error(text: str) -> None:
    try:
        found = durations.backoff(text)
    except ValueError:
        return
    assert 0 <= found.base_ms <= found.ceiling_ms


def test_importing_the_package_loads_no_sockets_and_no_event_loop() -> None:
    code = (
        "import sys, tasker_zmq; print([name for name in ('zmq', 'asyncio', 'yaml', 'sqlalchemy')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_a_wrapper_around_a_step_is_refused_because_it_would_not_run() -> None:
    import functools

    def loud(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: object) -> Any:
            return function(*args)

        return wrapper

    wrapped = loud(validate_order)
    with pytest.raises(HandlerDefinitionError, match="put @step above it"):
        workflow("a/b@1.0.0", wrapped)
    del wrapped
