"""From errors to exit codes: the one place that decides what a shell and its user are told."""

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final

import click

from tasker_zmq import errors


class ExitCode(IntEnum):
    """What the shell sees; scripts rely on these."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    REFUSED = 5
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


_CODES: Final[tuple[tuple[type[Exception], ExitCode], ...]] = (
    (errors.NotFoundError, ExitCode.NOT_FOUND),
    (errors.UnreachableError, ExitCode.UNREACHABLE),
    (errors.RefusedError, ExitCode.REFUSED),
    (errors.SettingsError, ExitCode.USAGE),
    (errors.HandlerDefinitionError, ExitCode.USAGE),
    (click.UsageError, ExitCode.USAGE),
)


def exit_code(error: BaseException) -> ExitCode:
    """The code for an error that ended a command."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def run(command: click.Command, arguments: Sequence[str], *, program: str) -> int:
    """Run a command as a program would; returns its exit code and never raises."""
    try:
        outcome = command.main(list(arguments), prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt) as interruption:
        return _interrupted(interruption)
    except BrokenPipeError:
        return _nobody_reads()
    except SystemExit as request:  # click ends so when nobody reads
        return request.code if isinstance(request.code, int) else int(request.code is not None)
    except Exception as error:  # noqa: BLE001 - the outermost frame: whatever it is, say it
        return _report(error)
    return outcome if isinstance(outcome, int) else ExitCode.OK


def _interrupted(interruption: BaseException) -> ExitCode:
    if isinstance(interruption.__context__, EOFError):  # a question, and nobody there to answer
        _say("no answer was given; answer on the terminal, or give the option that does")
        return ExitCode.FAILED
    return ExitCode.INTERRUPTED


def _report(error: Exception) -> ExitCode:
    if _is_debugging():
        traceback.print_exception(error)
    for line in _lines(error):
        _say(line)
    for note in getattr(error, "__notes__", ()):
        click.echo(f"hint: {note}", err=True)
    return exit_code(error)


def _lines(error: Exception) -> Iterator[str]:
    match error:
        case click.UsageError():
            yield error.format_message()
            if error.ctx is not None:
                error.add_note(_usage_hint(error, error.ctx))
        case click.ClickException():
            yield error.format_message()
        case errors.TaskerError():
            yield from str(error).splitlines() or [type(error).__name__]
        case OSError():
            yield str(error)
        case _:
            yield f"{type(error).__name__}: {error}"
            yield "that is a fault of tasker-zmq; TASKER_DEBUG=1 shows where it happened"


def _usage_hint(error: click.UsageError, ctx: click.Context) -> str:
    root = ctx.find_root()
    everywhere = {option for each in root.command.params for option in each.opts}
    if isinstance(error, click.NoSuchOption) and error.option_name in everywhere:
        return f"{error.option_name} goes before the command: {root.info_name} {error.option_name}"
    return f"{ctx.command_path} --help"


def _say(message: str) -> None:
    click.echo(f"error: {message}", err=True)


def _is_debugging() -> bool:
    # Imported late: a failure is rare, and --help should be instant.
    from tasker_zmq.settings.environment import DEBUG, process_variables

    return process_variables().get(DEBUG, "") not in ("", "0")


def _nobody_reads() -> ExitCode:
    """The reader of a pipe left, as `head` does; without this Python complains while it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.FAILED
