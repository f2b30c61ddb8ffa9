"""Which steps become ready is foreseen as the graph has it, whatever the order of completions."""

from datetime import UTC, datetime
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.ids import HandlerClass, NamedStepId, NamedTaskId, TaskId
from tasker_zmq.domain.kinds import TaskName
from tasker_zmq.domain.template import Backoff
from tasker_zmq.pipeline.contents import Contents, ContentsOfTurn
from tasker_zmq.pipeline.foresight import Course
from tasker_zmq.store.definitions import Definition, StepDefinition

TASK, NAMED = TaskId(7), NamedTaskId(3)
NOW = datetime(2026, 1, 5, tzinfo=UTC)
FIRST_STEP_ID, FIRST_NAMED_STEP_ID = 500, 40


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    """For each step the places of its parents, which stand before it."""
    size = draw(st.integers(1, 8))
    parents = [st.lists(st.integers(0, place - 1), unique=True) for place in range(1, size)]
    return [[], *[draw(each) for each in parents]]


def course(graph: list[list[int]]) -> Course:
    steps = tuple(
        StepDefinition(
            named_task_id=NAMED,
            named_task=TaskName("tests", "any", "1.0.0"),
            named_step_id=NamedStepId(FIRST_NAMED_STEP_ID + place),
            name=f"s{place}",
            handler_class=HandlerClass("tests.work"),
            handler_config=b"{}",
            depends_on=tuple(f"s{parent}" for parent in parents),
            retryable=True,
            retry_limit=3,
            backoff=Backoff(base_ms=1, ceiling_ms=1),
            timeout_seconds=1.0,
            confirm_start=False,
        )
        for place, parents in enumerate(graph)
    )
    definition = Definition(
        named_task_id=NAMED,
        namespace="tests",
        name="any",
        version="1.0.0",
        template_digest="d",
        input_schema=None,
        steps=steps,
    )
    ids = [FIRST_STEP_ID + 2 * place for place in range(len(graph))]
    return Course(TASK, definition, ids, list(definition.shape.parent_counts), 5, NOW)


@given(
    graph=graphs(),
    dice=st.randoms(use_true_random=False),
    per_tick=st.integers(1, 4),
    rolled_back=st.booleans(),
)
def test_a_step_is_ready_with_the_last_of_its_parents(
    *, graph: list[list[int]], dice: Random, per_tick: int, rolled_back: bool
) -> None:
    contents = Contents()
    contents.begin(TASK, "{}", course(graph))
    complete: set[int] = set()
    ready = [place for place, parents in enumerate(graph) if not parents]
    while ready:
        dice.shuffle(ready)
        now, ready = ready[:per_tick], ready[per_tick:]
        if rolled_back:
            lost = ContentsOfTurn(contents)
            for place in now:
                lost.finish(TASK, NamedStepId(FIRST_NAMED_STEP_ID + place))
        turn = ContentsOfTurn(contents)
        for place in now:
            complete.add(place)
            found = turn.finish(TASK, NamedStepId(FIRST_NAMED_STEP_ID + place)) or []
            wanted = [
                child
                for child, parents in enumerate(graph)
                if place in parents and set(parents) <= complete
            ]
            assert [each.step_id for each in found] == [FIRST_STEP_ID + 2 * c for c in wanted]
            assert {(each.task_id, each.priority, each.attempts) for each in found} <= {
                (TASK, 5, 0)
            }
            ready += wanted
        turn.keep()
    assert len(complete) == len(graph)


def test_what_memory_does_not_have_is_not_foreseen() -> None:
    contents = Contents()
    contents.begin(TASK, "{}")
    assert ContentsOfTurn(contents).finish(TASK, NamedStepId(1)) is None
    assert ContentsOfTurn(contents).finish(TaskId(8), NamedStepId(1)) is None


def test_a_task_that_is_held_up_is_not_foreseen() -> None:
    contents = Contents()
    contents.begin(TASK, "{}", course([[], [0]]))
    turn = ContentsOfTurn(contents)
    turn.drop([TASK])
    assert turn.finish(TASK, NamedStepId(FIRST_NAMED_STEP_ID)) is None
