"""Errors become exit codes and plain lines; results become tables or JSON."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import click
import pytest

from tasker_zmq import errors
from tasker_zmq.cli.failures import exit_code, run
from tasker_zmq.cli.output import (
    Output,
    as_text,
    output_option,
    print_object,
    print_rows,
    relative,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROWS = [{"task_id": 7, "state": "complete", "created_at": NOON, "context": {"a": 1}}]


def failing(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFoundError("no task 7"), 3),
        (errors.UnreachableError("no answer"), 4),
        (errors.RefusedError("no"), 5),
        (errors.SettingsError("unknown"), 2),
        (errors.TemplateError("cycle"), 1),
        (click.UsageError("what?"), 2),
        (click.ClickException("hm"), 1),
        (ZeroDivisionError("oh"), 1),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_a_plain_line(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(error) == code
    assert run(failing(error), [], program="x") == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert "Traceback" not in told.err


def test_a_note_on_an_error_is_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.UnreachableError("no daemon at tcp://127.0.0.1:5557")
    error.add_note("tasker-zmq daemon")
    run(failing(error), [], program="x")
    assert capsys.readouterr().err == (
        "error: no daemon at tcp://127.0.0.1:5557\nhint: tasker-zmq daemon\n"
    )


def test_the_traceback_is_shown_to_those_who_ask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKER_DEBUG", "1")
    run(failing(ZeroDivisionError("oh")), [], program="x")
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_an_exit_with_its_own_code() -> None:
    assert run(failing(KeyboardInterrupt()), [], program="x") == 130
    assert run(failing(SystemExit(7)), [], program="x") == 7
    assert run(failing(SystemExit()), [], program="x") == 0
    assert run(failing(click.exceptions.Exit(6)), [], program="x") == 6


def test_a_question_that_nobody_answers_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(failing(EOFError()), [], program="x") == 1
    assert "no answer was given" in capsys.readouterr().err


def test_a_reader_that_leaves_makes_no_noise() -> None:
    program = (
        "import click, sys; from tasker_zmq.cli.failures import run\n"
        "@click.command()\n"
        "def many():\n"
        "    sys.stdin.read()\n"
        "    for _ in range(100_000): click.echo('line')\n"
        "sys.exit(run(many, [], program='x'))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout and process.stderr  # noqa: PT018 - for mypy
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_a_table_has_the_named_columns_and_relative_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = NOON + timedelta(seconds=3)
    print_rows(ROWS, ["task_id", "state", "created_at"], output=Output.TABLE, now=now)
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["task", "id", "state", "created", "at"]
    assert row.split() == ["7", "complete", "3", "s", "ago"]


def test_json_has_everything_with_absolute_times(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, ["task_id"], output=Output.JSON, now=NOON)
    assert json.loads(capsys.readouterr().out) == [
        {"task_id": 7, "state": "complete", "created_at": "2026-01-01T12:00:00Z",
         "context": {"a": 1}}
    ]  # fmt: skip


def test_no_rows_are_an_empty_array_or_a_word_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows([], ["task_id"], output=Output.JSON)
    assert json.loads(capsys.readouterr().out) == []
    print_rows([], ["task_id"], output=Output.TABLE)
    assert capsys.readouterr() == ("", "nothing to show\n")


def test_one_thing_is_printed_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_object({"task_id": 7, "done": True, "error": None}, output=Output.TABLE)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["task", "id", "7"],
        ["done", "yes"],
        ["error", "-"],
    ]


def test_json_that_orjson_refuses_is_printed_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_object({"big": 1 << 80, "half": "\ud800", "at": NOON}, output=Output.JSON)
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"big": 1 << 80, "half": "\ud800", "at": "2026-01-01T12:00:00+00:00"}


def test_text_from_strangers_cannot_drive_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_object({"name": "[red]\x1b]0;x\x07\nnext"}, output=Output.TABLE)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[red]" in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "now"), (3, "3 s ago"), (119, "1 min ago"), (7_300, "2 h ago"), (200_000, "2 d ago"),
     (-5, "in 5 s"), (-90, "in 1 min")],
)  # fmt: skip
def test_times_are_said_as_people_say_them(seconds: int, said: str) -> None:
    assert relative(NOON, now=NOON + timedelta(seconds=seconds)) == said


def test_without_a_now_times_are_absolute() -> None:
    assert as_text(NOON, now=None) == "2026-01-01T12:00:00+00:00"


def test_the_output_option_arrives_as_its_kind() -> None:
    seen: list[Output] = []

    @click.command()
    @output_option
    def command(output: Output) -> None:
        seen.append(output)

    assert run(command, ["-o", "json"], program="x") == 0
    assert run(command, [], program="x") == 0
    assert seen == [Output.JSON, Output.TABLE]
    assert run(command, ["-o", "xml"], program="x") == 2
