"""What is right alone may be wrong together: rules between settings, and who can reach a socket."""

import ipaddress
from collections.abc import Iterator
from typing import Final

from tasker_zmq.errors import SettingsError
from tasker_zmq.settings.sections import ManagementMode, Settings

BOUND: Final = ("endpoints.steps", "endpoints.results", "endpoints.commands", "endpoints.health")
# Lower key, upper key, whether the two may be equal.
_ORDERED: Final = (
    ("heartbeat.interval_seconds", "heartbeat.suspect_seconds", False),
    ("heartbeat.suspect_seconds", "heartbeat.dead_seconds", False),
    ("retry.backoff_base_ms", "retry.backoff_ceiling_ms", True),
    ("breaker.cool_off_seconds", "breaker.cool_off_seconds_max", True),
    ("dispatch.batch_size", "limits.batch_steps_max", True),
)
_CHOSEN_BY_THE_SYSTEM: Final = (":*", ":0")


def check_together(settings: Settings) -> list[str]:
    """One line for each rule between settings that is broken."""
    problems = []
    for lower, upper, may_be_equal in _ORDERED:
        low, high = settings.value_of(lower), settings.value_of(upper)
        if not isinstance(low, int | float) or not isinstance(high, int | float):
            raise TypeError(f"{lower} and {upper} are no numbers")
        if low > high or (low == high and not may_be_equal):
            relation = "at most" if may_be_equal else "less than"
            problems.append(f"'{lower}' ({low:g}) wants to be {relation} '{upper}' ({high:g})")
    return problems + _shared_endpoints(settings)


def _shared_endpoints(settings: Settings) -> list[str]:
    first_at: dict[str, str] = {}
    problems = []
    for key in BOUND:
        endpoint = str(settings.value_of(key))
        other = first_at.setdefault(endpoint, key)
        if other != key and not endpoint.endswith(_CHOSEN_BY_THE_SYSTEM):
            problems.append(f"'{key}' and '{other}' both are {endpoint}; give each its own")
    return problems


def notes_on(settings: Settings) -> Iterator[str]:
    """Settings that do what they say, which may not be what was meant."""
    for key in BOUND:
        endpoint = str(settings.value_of(key))
        if endpoint.startswith("inproc://"):
            yield (
                f"'{key}' is {endpoint}, which joins threads of one process;"
                " workers are other processes: use tcp://127.0.0.1:PORT or ipc://PATH"
            )


def refuse_public_binds(settings: Settings) -> None:
    """Raise SettingsError if others could reach a socket and nobody said that they may."""
    if settings.endpoints.insecure:
        return
    reachable = [key for key in BOUND if not is_loopback(str(settings.value_of(key)))]
    if reachable:
        raise SettingsError("\n".join(_public_bind(settings, key) for key in reachable))


def _public_bind(settings: Settings, key: str) -> str:
    endpoint = str(settings.value_of(key))
    port = endpoint.rpartition(":")[2]
    return (
        f"'{key}' would bind {endpoint}, which other machines may reach, and there are no keys"
        " yet: anyone who can reach it may run and read work; bind"
        f" tcp://127.0.0.1:{port} or ipc://PATH, or give --insecure if everyone there may"
    )


def may_be_managed(settings: Settings) -> bool:
    """Whether commands may end this daemon and its workers."""
    mode = settings.commands.management
    local = mode is ManagementMode.LOCAL and is_loopback(settings.endpoints.commands)
    return mode is ManagementMode.ON or local


def is_loopback(endpoint: str) -> bool:
    """Whether only this machine reaches it; a name of an interface counts as reachable."""
    transport, _, rest = endpoint.partition("://")
    if transport in ("ipc", "inproc"):
        return True
    host = rest.rpartition(":")[0].removeprefix("[").removesuffix("]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
