"""`tasker-zmq dlq`: what is shown from the database, asked of the daemon, and refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasker_zmq.domain.control import LetterAction
from tasker_zmq.protocol.commands import ErrorData
from tasker_zmq.protocol.control import Controlled, DecideDeadLetters, Refusal
from tests.unit.conftest import Seeded
from tests.unit.shell import Answer, OwnDaemon, asked_for, tasker


@pytest.fixture(autouse=True)
def _database(seeded: Seeded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKER_DATABASE_URL", seeded.url)


@pytest.fixture
def answers() -> list[Answer]:
    """What the daemon does; a test puts its own in front."""
    return [lambda _command: Controlled(changed=(1,))]


def parsed(*arguments: str) -> Any:
    result = tasker(*arguments, "-o", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def asked(daemon: OwnDaemon) -> list[DecideDeadLetters]:
    return [asked_for(command, DecideDeadLetters) for command in daemon.asked]


def test_a_letter_is_listed_grouped_and_shown_with_its_error(seeded: Seeded) -> None:
    (letter,) = parsed("dlq", "list")
    assert letter["task_id"] == seeded.cast.failed
    assert (letter["step"], letter["step_id"]) == ("charge", seeded.charge)
    assert (letter["reason"], letter["status"]) == ("permanent_error", "open")
    (group,) = parsed("dlq", "groups")
    assert (group["count"], group["fingerprint"], group["step"]) == (1, "abc", "charge")
    assert group["message"] == "card declined"
    assert group["workflow"] == "orders/fulfil_order@1.0.0"
    shown = parsed("dlq", "show", str(letter["dead_letter_id"]))
    assert (shown["step_state"], shown["task_state"]) == ("error", "error")
    page = tasker("dlq", "show", str(letter["dead_letter_id"]))
    assert "PermanentError: card declined" in page.stdout
    assert "decide with: tasker-zmq dlq requeue|resolve|discard" in page.stderr
    assert "card declined" in tasker("dlq", "list").stdout
    assert "card declined" in tasker("dlq", "groups").stdout


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (("--reason", "permanent_error"), 1),
        (("--reason", "in_doubt"), 0),
        (("--task", "ORD-2"), 1),
        (("--task", "ORD-1"), 0),
        (("--workflow", "orders/fulfil_order@1.0.0"), 1),
        (("--workflow", "fulfil_order@2.0.0"), 0),
        (("--namespace", "orders"), 1),
        (("--namespace", "stock"), 0),
        (("--step", "charge"), 1),
        (("--step", "ship"), 0),
        (("--fingerprint", "abc"), 1),
        (("--fingerprint", "abd"), 0),
        (("--status", "discarded"), 0),
        (("--status", "all"), 1),
        (("--since", "1d"), 1),
        (("--since", "0s"), 0),
    ],
)
def test_every_filter_filters(arguments: tuple[str, ...], count: int) -> None:
    assert len(parsed("dlq", "list", *arguments)) == count
    assert len(parsed("dlq", "groups", *arguments)) == count


def test_a_letter_that_is_not_there_is_not_found() -> None:
    result = tasker("dlq", "show", "999999")
    assert (result.exit_code, "no dead letter has the id 999999" in result.stderr) == (3, True)


def test_ids_and_the_reason_are_sent_and_the_outcome_is_told(
    daemon: OwnDaemon, answers: list[Answer]
) -> None:
    answers[0] = lambda _command: Controlled(changed=(3,), already=(4,))
    result = tasker("dlq", "requeue", "4", "3", "--why", "card works", "--by", "anna")
    assert (result.exit_code, result.stdout) == (0, "1 requeued\n")
    assert "1 were decided already: 4" in result.stderr
    (request,) = asked(daemon)
    assert request.action is LetterAction.REQUEUE
    assert (request.dead_letter_ids, request.filter) == ((3, 4), None)
    assert (request.why, request.by) == ("card works", "anna")


def test_without_by_it_is_the_person_at_the_shell(daemon: OwnDaemon) -> None:
    tasker("dlq", "discard", "1", "--why", "old")
    (command,) = daemon.asked
    assert asked(daemon)[0].by is None
    assert command.metadata.source is not None
    assert "@" in command.metadata.source.id


def test_a_filter_is_asked_for_page_by_page_up_to_the_letters_of_the_first(
    daemon: OwnDaemon, answers: list[Answer], seeded: Seeded
) -> None:
    pages = iter(
        [
            Controlled(changed=(1, 2), after_id=2, up_to_id=9),
            Controlled(changed=(), after_id=2, up_to_id=9),
            Controlled(changed=(5,), up_to_id=9),
        ]
    )
    answers[0] = lambda _command: next(pages)
    arguments = ("--fingerprint", "abc", "--task", "ORD-2", "--result", '{"paid":  1.50}')
    assert parsed("dlq", "resolve", *arguments, "--why", "paid by hand") == {
        "changed": [1, 2, 5],
        "already": [],
        "refused": [],
    }
    first, second, third = asked(daemon)
    assert first.filter is not None
    assert (first.filter.fingerprint, first.filter.task_id) == ("abc", seeded.cast.failed)
    assert bytes(first.results) == b'{"paid":  1.50}'
    assert (first.after_id, first.up_to_id) == (0, None)
    assert (second.after_id, second.up_to_id) == (third.after_id, third.up_to_id) == (2, 9)


def test_everything_is_meant_only_when_it_is_said(daemon: OwnDaemon) -> None:
    assert tasker("dlq", "discard", "--all", "--why", "old").exit_code == 0
    (request,) = asked(daemon)
    assert request.filter is not None
    assert request.filter.reason is None


def test_a_thousand_ids_go_into_one_command_and_more_into_the_next(daemon: OwnDaemon) -> None:
    tasker("dlq", "discard", *(str(each) for each in range(1, 1_003)), "--why", "old")
    assert [len(request.dead_letter_ids) for request in asked(daemon)] == [1_000, 2]


def test_a_dry_run_counts_and_asks_nothing_of_the_daemon(daemon: OwnDaemon) -> None:
    letter = str(parsed("dlq", "list")[0]["dead_letter_id"])
    for arguments, count in ((("--all",), 1), (("--step", "ship"), 0), ((letter, "999999"), 1)):
        result = tasker("dlq", "requeue", *arguments, "--dry-run")
        assert result.exit_code == 0
        assert result.stdout == f"{count} would be requeued; nothing was changed\n"
        assert parsed("dlq", "requeue", *arguments, "--dry-run") == {"would_change": count}
    assert daemon.asked == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--why", "x"), "wanted IDs, or a filter such as --fingerprint, or --all"),
        (("1", "--all", "--why", "x"), "found several of these"),
        (("1", "--step", "a", "--why", "x"), "found several of these"),
        (("1",), "--why is missing"),
        (("1", "--why", " "), "--why is missing"),
        (("one", "--why", "x"), "'one' is not a valid integer"),
        (("--result", "{a}", "1", "--why", "x"), "wanted JSON such as"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    daemon: OwnDaemon, arguments: tuple[str, ...], said: str
) -> None:
    result = tasker("dlq", "resolve", *arguments)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert daemon.asked == []


@pytest.mark.parametrize(("code", "exit_code"), [("refused", 5), ("not_found", 3)])
def test_what_is_left_as_it_was_is_told_with_the_exit_code_for_it(
    daemon: OwnDaemon, answers: list[Answer], code: str, exit_code: int
) -> None:
    refusal = Refusal(id=2, code=code, message="dead letter 2: its step is complete by now")
    answers[0] = lambda _command: Controlled(changed=(1,), refused=(refusal,))
    result = tasker("dlq", "requeue", "1", "2", "--why", "x")
    assert (result.exit_code, result.stdout) == (exit_code, "1 requeued\n")
    assert "error: dead letter 2: its step is complete by now" in result.stderr
    assert daemon.asked != []


def test_a_refusal_of_the_daemon_brings_its_words(daemon: OwnDaemon, answers: list[Answer]) -> None:
    answers[0] = lambda _command: ErrorData(code="invalid", message="too much", hint="less")
    result = tasker("dlq", "requeue", "1", "--why", "x")
    assert (result.exit_code, result.stderr) == (5, "error: too much\nhint: less\n")
    assert len(daemon.asked) == 1


def test_letters_are_seen_but_not_decided_while_the_daemon_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TASKER_ENDPOINTS_COMMANDS", "tcp://127.0.0.1:1")
    assert len(parsed("dlq", "list")) == 1
    result = tasker("dlq", "requeue", "1", "--why", "x")
    assert result.exit_code == 4
    assert "start one with `tasker-zmq daemon`" in result.stderr
