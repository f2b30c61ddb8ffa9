"""The memory of steps that may be sent: bounded, by handler, most urgent first."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tasker_zmq.domain.ids import HandlerClass, NamedStepId, NamedTaskId, StepId, TaskId
from tasker_zmq.domain.kinds import Kind, TaskName
from tasker_zmq.domain.template import Backoff
from tasker_zmq.pipeline.viable import Entry, ViableSteps
from tasker_zmq.store.definitions import StepDefinition
from tasker_zmq.store.steps import ReadyStep
from tasker_zmq.store.sweeping import Crowd
from tasker_zmq.testing import ManualClock

STEPS_MAX = 6
NOW = ManualClock().now()
HANDLERS = ("pack", "ship", "bill")


def entry(number: int, handler: str = "pack", *, priority: int = 0, named: int = 1) -> Entry:
    ready = ReadyStep(
        step_id=StepId(number),
        task_id=TaskId(1),
        named_task_id=NamedTaskId(1),
        named_step_id=NamedStepId(named),
        priority=priority,
        attempts=0,
        retry_limit=3,
        created_at=NOW,
    )
    definition = StepDefinition(
        named_task_id=NamedTaskId(1),
        named_task=TaskName("tests", "one", "1"),
        named_step_id=NamedStepId(1),
        name=handler,
        handler_class=HandlerClass(handler),
        handler_config=b"{}",
        depends_on=(),
        retryable=True,
        retry_limit=3,
        backoff=Backoff(),
        timeout_seconds=30.0,
        confirm_start=False,
    )
    return ready, definition


def numbers(steps: ViableSteps, handler: str) -> list[int]:
    return [ready.step_id for ready, _ in steps.peek(kind(handler))]


def kind(handler: str) -> Kind:
    return Kind(HandlerClass(handler), NamedTaskId(1))


def test_steps_of_one_priority_come_in_the_order_in_which_they_were_added() -> None:
    steps = ViableSteps(steps_max=10)
    steps.add([entry(3), entry(1), entry(2)])
    assert numbers(steps, "pack") == [3, 1, 2]


def test_urgent_steps_come_first() -> None:
    steps = ViableSteps(steps_max=10)
    steps.add([entry(1), entry(2, priority=5), entry(3, priority=-5), entry(4, priority=5)])
    assert numbers(steps, "pack") == [2, 4, 1, 3]


def test_each_handler_has_steps_of_its_own() -> None:
    steps = ViableSteps(steps_max=10)
    steps.add([entry(1, "pack"), entry(2, "ship"), entry(3, "pack")])
    assert steps.waiting() == {"pack": 2, "ship": 1}
    assert set(steps.kinds()) == {kind("pack"), kind("ship")}
    assert numbers(steps, "ship") == [2]
    assert numbers(steps, "nobody") == []


def test_a_step_is_kept_once_and_where_it_was_first() -> None:
    steps = ViableSteps(steps_max=10)
    steps.add([entry(1), entry(2)])
    steps.add([entry(1, priority=9), entry(2, "ship")])
    assert numbers(steps, "pack") == [1, 2]
    assert len(steps) == 2
    assert tuple(steps.kinds()) == (kind("pack"),)


def test_what_does_not_fit_is_noted_for_the_sweep() -> None:
    steps = ViableSteps(steps_max=2)
    steps.add([entry(1), entry(2)])
    assert not steps.overflowed
    steps.add([entry(1), entry(3)])
    assert steps.overflowed
    assert numbers(steps, "pack") == [1, 2]


def test_steps_of_a_handler_that_nobody_runs_leave_room_for_others() -> None:
    steps = ViableSteps(steps_max=10)
    steps.add([entry(number, "ship") for number in range(1, 30)])
    steps.add([entry(number, "pack") for number in range(30, 60)])
    assert steps.waiting() == {"ship": 5, "pack": 5}
    assert steps.overflowed


def test_an_urgent_step_takes_the_place_of_the_youngest_that_is_not() -> None:
    steps = ViableSteps(steps_max=3)
    steps.add([entry(1), entry(2), entry(3), entry(4, priority=1), entry(5, priority=-1)])
    assert numbers(steps, "pack") == [4, 1, 2]


def test_half_full_is_too_full_for_another_page() -> None:
    steps = ViableSteps(steps_max=4)
    steps.add([entry(1), entry(2)])
    assert not steps.full
    steps.add([entry(3)])
    assert steps.full


def test_a_crowd_is_who_has_more_than_a_fair_share_unless_something_is_more_urgent() -> None:
    steps = ViableSteps(steps_max=8)
    assert steps.crowd() is None
    steps.add(entry(number, "ship", named=number % 2) for number in (1, 2, 3, 4))
    assert steps.crowd() is None
    steps.add([entry(5, "ship", named=0, priority=3), entry(6, "pack", named=7)])
    ship = frozenset((NamedTaskId(1), NamedStepId(each)) for each in (0, 1))
    assert steps.crowd() == Crowd(definitions=ship, priority=0)
    steps.discard([StepId(1), StepId(2), StepId(3)])
    assert steps.crowd() is None


def test_a_discarded_step_may_come_again_and_then_stands_last() -> None:
    steps = ViableSteps(steps_max=10)
    steps.add([entry(1), entry(2)])
    steps.discard([StepId(1), StepId(99)])
    assert numbers(steps, "pack") == [2]
    steps.add([entry(1)])
    assert numbers(steps, "pack") == [2, 1]
    steps.discard([StepId(1), StepId(2)])
    assert not steps.kinds()


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(-2, 2)), unique_by=lambda pair: pair[0]))
def test_the_order_is_by_priority_and_then_by_arrival(added: list[tuple[int, int]]) -> None:
    steps = ViableSteps(steps_max=100)
    steps.add([entry(number, priority=priority) for number, priority in added])
    wanted = [number for number, _ in sorted(added, key=lambda pair: -pair[1])]
    assert numbers(steps, "pack") == wanted


class ViableStepsAgainstAList(RuleBasedStateMachine):
    """Whatever is added and discarded, a plain list of what was kept tells the same."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = ViableSteps(steps_max=STEPS_MAX)
        self.kept: list[tuple[int, str, int]] = []
        self.overflowed = False
        self.order: list[str] = []  # handlers with steps, as they came

    def _give_up_one(self, handler: str, priority: int) -> bool:
        """As the rules say: of the handler with most, the least urgent, the youngest."""
        counts = {name: sum(each[1] == name for each in self.kept) for name in HANDLERS}
        first_seen = list(dict.fromkeys(self.order))
        largest = max((name for name in first_seen if counts[name]), key=lambda name: counts[name])
        if counts[largest] <= counts[handler] + 1:
            largest = handler
        mine = [each for each in self.kept if each[1] == largest]
        worst = min((each[2] for each in mine), default=priority)
        if not mine or (largest == handler and worst >= priority):
            return False
        self.kept.remove([each for each in mine if each[2] == worst][-1])
        self._forget_empty()
        return True

    def _forget_empty(self) -> None:
        self.order = [name for name in self.order if any(each[1] == name for each in self.kept)]

    @rule(number=st.integers(1, 12), handler=st.sampled_from(HANDLERS), priority=st.integers(-1, 1))
    def add(self, number: int, handler: str, priority: int) -> None:
        self.steps.add([entry(number, handler, priority=priority)])
        if any(each[0] == number for each in self.kept):
            return
        if len(self.kept) >= STEPS_MAX:
            self.overflowed = True
            if not self._give_up_one(handler, priority):
                return
        self.kept.append((number, handler, priority))
        if handler not in self.order:
            self.order.append(handler)

    @rule(gone=st.lists(st.integers(1, 12), max_size=3))
    def discard(self, gone: list[int]) -> None:
        self.steps.discard(StepId(each) for each in gone)
        self.kept = [each for each in self.kept if each[0] not in gone]
        self._forget_empty()

    @invariant()
    def both_tell_the_same(self) -> None:
        assert len(self.steps) == len(self.kept) <= STEPS_MAX
        assert self.steps.overflowed == self.overflowed
        for handler in HANDLERS:
            mine = sorted((each for each in self.kept if each[1] == handler), key=lambda e: -e[2])
            assert numbers(self.steps, handler) == [each[0] for each in mine]
        assert sum(self.steps.waiting().values()) == len(self.kept)
        assert set(self.steps.kinds()) == {kind(each[1]) for each in self.kept}


TestViableStepsAgainstAList = ViableStepsAgainstAList.TestCase
