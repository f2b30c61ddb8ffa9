import asyncio
import re
from typing import Any

import pytest

from tasker_zmq import (
    Context,
    HandlerDefinitionError,
    PermanentError,
    RetryableError,
    step,
    workflow,
)
from tasker_zmq.templates import load_mapping
from tasker_zmq.worker.output import UnfitOutputError


def test_a_workflow_runs_in_place_in_the_order_of_its_graph() -> None:
    @step
    def first(amount: int) -> int:
        return amount

    @step
    async def second(first: int) -> int:
        await asyncio.sleep(0)
        return first + 1

    @step(after=first)
    def third(context: dict[str, Any]) -> list[str]:
        return sorted(context)

    @step
    def last(second: int, third: list[str], bonus: int = 5, **others: object) -> list[object]:
        return [second, third, bonus, others]

    found = workflow("a/b@1.0.0", last)
    expected = {
        "first": 2,
        "second": 3,
        "third": ["amount"],
        "last": [3, ["amount"], 5, {"amount": 2}],
    }
    assert found.run_local(amount=2) == expected
    assert found.run_local({"amount": 2}) == expected


def test_a_local_run_retries_at_once_and_stops_at_a_permanent_error() -> None:
    tries: list[int] = []

    @step(attempts=3)
    def shaky(ctx: Context) -> int:
        tries.append(ctx.attempt)
        if ctx.attempt < 3:
            raise RetryableError("again", retry_after=60)
        return ctx.attempt

    @step(attempts=3)
    def declined(shaky: int) -> None:
        tries.append(0)
        raise PermanentError("card declined")

    assert workflow("a/shaky@1.0.0", shaky).run_local() == {"shaky": 3}
    with pytest.raises(PermanentError, match="card declined") as caught:
        workflow("a/declined@1.0.0", declined).run_local()
    assert caught.value.__notes__ == ["step 'declined', attempt 1 of 3"]
    assert tries == [1, 2, 3, 1, 2, 3, 0]


def test_a_local_run_sees_what_json_makes_of_a_value() -> None:
    @step
    def pair() -> tuple[int, int]:
        return (1, 2)

    @step
    def bad() -> set[int]:
        return {1}

    assert workflow("a/pair@1.0.0", pair).run_local() == {"pair": [1, 2]}
    with pytest.raises(UnfitOutputError, match=re.escape("set at $")):
        workflow("a/bad@1.0.0", bad).run_local()


def test_a_local_run_checks_the_input_schema() -> None:
    @step
    def take(order: int) -> int:
        return order

    schema = {"type": "object", "properties": {"order": {"type": "integer"}}}
    found = workflow("a/b@1.0.0", take, input_schema=schema)
    with pytest.raises(PermanentError, match=re.escape("$.order")):
        found.run_local(order="one")


def test_a_missing_field_is_named_with_the_nearest_one() -> None:
    @step
    def take(order: int) -> int:
        return order

    with pytest.raises(PermanentError, match=r"needs 'order'.*did you mean 'orders'"):
        workflow("a/b@1.0.0", take).run_local(orders=1)


@pytest.mark.parametrize("name", ["b", "a/b", "a/b@1", "a b/c@1.0.0", "a/b@x.y.z", ""])
def test_a_bad_name_is_refused(name: str) -> None:
    @step
    def take() -> None: ...

    with pytest.raises(HandlerDefinitionError, match=r"api_workflow\.py:\d+: .*names no workflow"):
        workflow(name, take)


def test_steps_that_wait_for_each_other_are_refused() -> None:
    @step(after="three")
    def one() -> None: ...

    @step(after=one)
    def two() -> None: ...

    @step(after=two)
    def three() -> None: ...

    with pytest.raises(HandlerDefinitionError, match=r"three -> two -> one -> three"):
        workflow("a/b@1.0.0", three)


def test_an_unknown_parent_is_named_with_the_nearest_step() -> None:
    @step
    def validate() -> None: ...

    @step(after="valdiate")
    def ship() -> None: ...

    with pytest.raises(HandlerDefinitionError, match="unknown 'valdiate'; did you mean 'validate'"):
        workflow("a/b@1.0.0", ship)


def test_two_steps_of_one_name_are_refused() -> None:
    @step(name="same")
    def one() -> None: ...

    @step(name="same", after=one)
    def two() -> None: ...

    with pytest.raises(HandlerDefinitionError, match="two steps are called 'same'"):
        workflow("a/b@1.0.0", two)


def test_what_is_no_step_ends_no_workflow() -> None:
    def plain() -> None: ...

    with pytest.raises(HandlerDefinitionError, match="'plain', which is no @step"):
        workflow("a/b@1.0.0", plain)
    with pytest.raises(HandlerDefinitionError, match="has no steps"):
        workflow("a/b@1.0.0")


def test_a_parameter_that_names_a_later_step_is_refused() -> None:
    @step
    def ship(charge: int) -> None: ...

    @step
    def charge() -> int:
        return 1

    with pytest.raises(HandlerDefinitionError, match="a step that is declared after it"):
        workflow("a/b@1.0.0", ship, charge)


def test_a_parameter_that_a_closed_schema_does_not_know_is_refused() -> None:
    @step
    def take(ordr: int, extra: int = 1) -> int:
        return ordr + extra

    schema = {"properties": {"order": {}}, "additionalProperties": False}
    with pytest.raises(HandlerDefinitionError, match=r"'ordr'.*did you mean 'order'"):
        workflow("a/b@1.0.0", take, input_schema=schema)
    open_schema: dict[str, Any] = {"properties": {"order": {}}}
    assert workflow("a/b@1.0.0", take, input_schema=open_schema).input_schema == open_schema


def test_what_code_says_loads_as_a_template_with_the_same_graph() -> None:
    @step(retryable=False, timeout=5, confirm_start=True, backoff="linear 1s..2s")
    def charge(amount: int) -> int:
        return amount

    @step(name="ship-it", retry_limit=0, handler="Ship::Handler")
    def ship(charge: int) -> int:
        return charge

    found = workflow("shop.eu/charge_and-ship@1.2.3-rc.1", ship)
    loaded = load_mapping(found.template(), source="code", environment="development")
    assert (loaded.problems, loaded.warnings) == ((), ())
    assert loaded.template is not None
    assert loaded.template.full_name == found.full_name
    first, second = loaded.template.steps
    assert (first.retryable, first.retry_limit, first.timeout_seconds) == (False, 0, 5.0)
    assert first.confirm_start
    assert (first.backoff.kind, first.backoff.base_ms) == ("linear", 1_000)
    assert (second.name, second.handler_class, second.depends_on) == (
        "ship-it",
        "Ship::Handler",
        ("charge",),
    )
    assert second.retry_limit == 0
