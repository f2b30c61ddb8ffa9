import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, TypedDict

import msgspec
import pytest

from tasker_zmq import Context, HandlerDefinitionError, PermanentError, StepHandler, handler, step
from tasker_zmq.worker.binding import invoke
from tasker_zmq.worker.handlers import Handler, Sequence, StepView, Task
from tasker_zmq.worker.registry import registry_of


@dataclass
class Line:
    sku: str
    quantity: int


class Order(msgspec.Struct):
    lines: list[Line]


class Note(TypedDict):
    text: str


class Model:
    """Has pydantic's one method, which is all that is looked for."""

    def __init__(self, value: object) -> None:
        self.value = value

    @classmethod
    def model_validate(cls, value: object) -> "Model":
        if value == "bad":
            raise ValueError("not good")
        return cls(value)


class Ship(StepHandler):
    handler_name: ClassVar[str | None] = "OrderFulfillment::StepHandlers::ShipHandler"

    def process(self, task: Task, sequence: Sequence, step: StepView) -> Any:
        missing = sequence.find("nothing")
        names = [each.name for each in sequence]
        return [task.task_id, task.context["a"], sequence["charge"], names, step.name, missing]


class Unnamed(StepHandler):
    async def process(self, task: Task, sequence: Sequence, step: StepView) -> Any:
        return step.handler_config


@handler("Plain::Function")
def plain(amount: int) -> int:
    return amount + 1


@step(handler="Other.Name")
def renamed(amount: int) -> int:
    return amount


def module_of(**names: object) -> ModuleType:
    found = ModuleType("pool")
    vars(found).update(names)
    return found


def handler_of(function: Any) -> Handler:
    (name,) = registry_of([module_of(it=function)]).names
    found = registry_of([module_of(it=function)]).find(name)
    assert found is not None
    return found


def test_a_registry_holds_what_the_modules_define_under_the_names_they_say() -> None:
    module = module_of(
        Ship=Ship, Unnamed=Unnamed, plain=plain, renamed=renamed, StepHandler=StepHandler, x=3
    )
    registry = registry_of([module, module])
    assert registry.names == (
        "OrderFulfillment::StepHandlers::ShipHandler",
        "Other.Name",
        "Plain::Function",
        f"{__name__}.Unnamed",
    )
    assert registry.find("os.system") is None
    assert "did you mean 'Other.Name'?" in registry.unknown("Other.Nam")


def test_two_handlers_of_one_name_are_refused() -> None:
    @step(handler="Other.Name")
    def another() -> None: ...

    with pytest.raises(HandlerDefinitionError, match=r"two handlers are called 'Other\.Name'"):
        registry_of([module_of(a=renamed, b=another)])


def test_a_class_handler_gets_task_sequence_and_step() -> None:
    ctx = Context(
        task_id=4, step_name="ship", context={"a": 1}, previous_results={"charge": {"paid": 2}}
    )
    assert invoke(handler_of(Ship), ctx) == [4, 1, {"paid": 2}, ["charge"], "ship", None]
    assert handler_of(Unnamed).is_async


def test_an_unknown_parent_in_a_sequence_names_those_there_are() -> None:
    with pytest.raises(KeyError, match="its parents: none"):
        Sequence(())["charge"]


def test_annotated_parameters_become_what_they_are_annotated_with() -> None:
    @step
    def take(order: Order, notes: list[Note], model: Model, line: Line | None, raw: dict) -> Any:  # type: ignore[type-arg]
        return [order, notes, model.value, line, raw]

    context: Mapping[str, Any] = {
        "order": {"lines": [{"sku": "a", "quantity": 2}]},
        "notes": [{"text": "hi"}],
        "model": 5,
        "line": None,
        "raw": {"any": "thing"},
    }
    found = invoke(handler_of(take), Context(context=context))
    assert found == [Order([Line("a", 2)]), [{"text": "hi"}], 5, None, {"any": "thing"}]


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        ({"order": {"lines": [{"sku": "a", "quantity": "2"}]}, "model": 1}, "$.lines[0].quantity"),
        ({"order": {"lines": []}, "model": "bad"}, "'model' is not a Model: not good"),
    ],
)
def test_a_value_that_does_not_fit_its_annotation_fails_for_good_and_says_where(
    context: dict[str, Any], problem: str
) -> None:
    @step
    def take(order: Order, model: Model) -> None: ...

    with pytest.raises(PermanentError, match=re.escape(problem)):
        invoke(handler_of(take), Context(context=context))


def test_a_context_can_be_made_by_hand_for_a_plain_test() -> None:
    ctx = Context(attempt=2)
    ctx.progress({"percent": 3})
    ctx.logger.info("said")
    assert (ctx.attempt, ctx.cancelled, ctx.context) == (2, False, {})
