"""Contexts and results in memory: whole or not there, within their bound, kept after the commit."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.ids import TaskId
from tasker_zmq.pipeline.contents import Contents, ContentsOfTurn

TASK = TaskId(1)
SIZE_MAX = 100
TEXTS = st.text(max_size=40).map(lambda text: orjson.dumps(text).decode())
DEEDS = st.one_of(
    st.tuples(st.just("begin"), st.integers(1, 4), TEXTS),
    st.tuples(st.just("add"), st.integers(1, 4), st.sampled_from("abc"), TEXTS),
    st.tuples(st.just("drop"), st.integers(1, 4)),
)


@given(st.lists(DEEDS, max_size=40))
def test_what_is_remembered_is_what_was_written_last_and_never_more_than_allowed(
    deeds: list[tuple[object, ...]],
) -> None:
    contents = Contents(SIZE_MAX)
    written: dict[object, str] = {}
    for deed, task, *rest in deeds:
        task_id = TaskId(int(str(task)))
        if deed == "begin":
            written = {key: text for key, text in written.items() if key[0] != task_id}  # type: ignore[index]
            written[task_id, None] = str(rest[0])
            contents.begin(task_id, str(rest[0]))
        elif deed == "add":
            written[task_id, rest[0]] = str(rest[1])
            contents.add(task_id, str(rest[0]), str(rest[1]))
        else:
            contents.drop([task_id])
            assert contents.context(task_id) is None
        held = 0
        for number in range(1, 5):
            found = [contents.context(TaskId(number))]
            found += [contents.result(TaskId(number), step) for step in "abc"]
            for step, text in zip((None, *"abc"), found, strict=True):
                assert text is None or text == written[TaskId(number), step]
                held += len(text or "")
        assert held <= SIZE_MAX


def test_nothing_of_a_tick_is_kept_before_its_commit() -> None:
    contents = Contents()
    turn = ContentsOfTurn(contents)
    turn.begin(TASK, "{}")
    turn.add(TASK, "a", "1")
    assert (turn.context(TASK), turn.previous_results(TASK, ["a"])) == ("{}", '{"a":1}')
    assert contents.context(TASK) is None
    turn.keep()
    assert (contents.context(TASK), contents.result(TASK, "a")) == ("{}", "1")


def test_parents_results_are_there_as_a_whole_or_not_at_all() -> None:
    contents = Contents()
    contents.begin(TASK, "{}")
    contents.add(TASK, "a", "1")
    turn = ContentsOfTurn(contents)
    assert turn.previous_results(TASK, ["a", 'b "quoted"']) is None
    turn.add(TASK, 'b "quoted"', "[2]")
    together = turn.previous_results(TASK, ["a", 'b "quoted"'])
    assert orjson.loads(together or "") == {"a": 1, 'b "quoted"': [2]}


def test_what_a_tick_writes_stands_before_what_was_known() -> None:
    contents = Contents()
    contents.begin(TASK, "{}")
    contents.add(TASK, "a", "1")
    turn = ContentsOfTurn(contents)
    turn.add(TASK, "a", "2")
    assert turn.previous_results(TASK, ["a"]) == '{"a":2}'


def test_a_task_that_is_over_is_forgotten() -> None:
    contents = Contents()
    turn = ContentsOfTurn(contents)
    turn.begin(TASK, "{}")
    turn.drop([TASK])
    turn.keep()
    assert len(contents) == 0
