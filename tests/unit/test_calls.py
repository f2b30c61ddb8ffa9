"""Call: what the settings name, and nothing else, and always an answer."""

import threading
from collections.abc import Callable
from queue import Queue
from typing import Any

import msgspec
import pytest

from tasker_zmq.cli.functions import load_functions
from tasker_zmq.clock import SystemClock
from tasker_zmq.commands.replies import Asked
from tasker_zmq.commands.router import ROUTES
from tasker_zmq.daemon.calls import RUNNING_MAX, Calls
from tasker_zmq.errors import SettingsError
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import ERROR, Command, Payload
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.settings import BY_KEY
from tasker_zmq.settings.setting import UnusableValueError

WAIT_SECONDS_MAX = 20


class Office:
    """Calls, and the answers to them."""

    def __init__(self, seconds: float = 60.0, **functions: Callable[..., Any]) -> None:
        self.letters: Queue[Letter] = Queue()
        self.calls = Calls(
            functions,
            seconds=seconds,
            core_id="core-1",
            clock=SystemClock(),
            send=self.letters.put,
        )

    def ask(self, function: str, **arguments: Any) -> None:
        data = codec.raw({"function": function, "arguments": arguments})
        command = Command(
            command_type="Call", command_id="c", payload=Payload(type="Call", data=data)
        )
        self.calls.ask(ROUTES["Call"], Asked((b"client",), command, SystemClock().now()))

    def answer(self) -> Any:
        """The result, or what was refused."""
        letter = self.letters.get(timeout=WAIT_SECONDS_MAX)
        payload = codec.decode_command(letter.body, WireLimits()).payload
        found = msgspec.json.decode(payload.data)
        return found if payload.type == ERROR else found["result"]


def test_a_function_is_called_with_json_and_answers_with_json() -> None:
    office = Office(add=lambda a, b: {"sum": a + b})
    office.ask("add", a=1, b=2.5)
    assert office.answer() == {"sum": 3.5}


def test_only_functions_of_the_settings_are_called_and_others_are_told() -> None:
    office = Office(add=sum, subtract=sum)
    for name in ("os.system", "__import__", "ad", ""):
        office.ask(name)
        refused = office.answer()
        assert refused["code"] == "unknown_function"
        assert refused["hint"] == "allowed: add, subtract"
    nothing = Office()
    nothing.ask("add")
    assert "call.functions" in nothing.answer()["hint"]


def leave() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (leave, "SystemExit"),
        (lambda a: a, "TypeError"),
        (object, "no JSON"),
        (lambda: "\0", "no JSON"),
        (lambda: 10**30, "no JSON"),
        (lambda: "x" * (2 << 20), "no JSON"),
    ],
)
def test_whatever_a_function_does_is_an_answer(function: Callable[..., Any], said: str) -> None:
    office = Office(it=function)
    office.ask("it")
    refused = office.answer()
    assert refused["code"] == "call_failed"
    assert said in refused["message"]
    assert len(refused["message"]) < 1_000


def test_a_function_that_does_not_return_is_answered_for_in_time() -> None:
    held, ended = threading.Event(), threading.Event()

    def wait() -> None:
        held.wait(WAIT_SECONDS_MAX)
        ended.set()

    office = Office(seconds=0.05, wait=wait)
    office.ask("wait")
    assert office.answer()["code"] == "timed_out"
    held.set()
    assert ended.wait(WAIT_SECONDS_MAX)
    assert office.letters.empty()  # one answer, however it ended


def test_too_many_at_once_are_refused_and_a_place_is_free_again_behind_each() -> None:
    held = threading.Event()
    office = Office(wait=lambda: held.wait(WAIT_SECONDS_MAX))
    for _ in range(RUNNING_MAX):
        office.ask("wait")
    office.ask("wait")
    assert office.answer()["code"] == "busy"
    held.set()
    assert [office.answer() for _ in range(RUNNING_MAX)] == [True] * RUNNING_MAX
    for _ in range(2 * RUNNING_MAX):
        office.ask("wait")
        assert office.answer() is True


def test_the_setting_is_a_mapping_or_a_list_of_entries_and_is_checked() -> None:
    setting = BY_KEY["call.functions"]
    entries = ("b=shop.money:rate", "c=os:getpid")
    assert setting.convert({"c": "os:getpid", "b": "shop.money:rate"}) == entries
    assert setting.convert("c=os:getpid, b=shop.money:rate") == entries
    assert setting.convert(setting.show(entries)) == entries
    assert setting.convert(None) == ()
    for wrong in ("c=os", "os:getpid", {"a b": "os:getpid"}, {"a": {"b": 1}}, "c=os:a,c=os:b", 7):
        with pytest.raises(UnusableValueError, match="MODULE:FUNCTION"):
            setting.convert(wrong)


def test_functions_are_imported_at_the_start_or_the_start_fails() -> None:
    assert load_functions(("path=posixpath:join",))["path"]("a", "b") == "a/b"
    for entry in ("it=no_such_module:f", "it=posixpath:no_such_name", "it=posixpath:sep"):
        with pytest.raises(SettingsError, match=r"call\.functions"):
            load_functions((entry,))
