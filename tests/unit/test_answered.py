"""What was answered of late: the newest answers, bounded in number and in bytes."""

from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.commands.answered import Answered

ANSWERS_MAX, BYTES_MAX = 5, 40


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.binary(max_size=12)), max_size=40))
def test_the_newest_answers_are_known_within_the_bounds(said: list[tuple[str, bytes]]) -> None:
    answered = Answered(answers_max=ANSWERS_MAX, bytes_max=BYTES_MAX)
    newest: dict[str, bytes] = {}
    for command_id, body in said:
        answered.keep({command_id: body})
        newest.pop(command_id, None)
        newest[command_id] = body
    kept = {each: body for each, body in newest.items() if answered.get(each) == body}
    assert len(answered) == len(kept) <= ANSWERS_MAX
    assert sum(map(len, kept.values())) <= BYTES_MAX
    assert list(kept.items()) == list(newest.items())[len(newest) - len(kept) :]
    if len(said) <= ANSWERS_MAX and sum(len(body) for _, body in said) <= BYTES_MAX:
        assert kept == newest
