"""What a file says about a step, layer upon layer: the dialect's defaults, the step, overrides."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from tasker_zmq.domain.ids import HandlerClass
from tasker_zmq.domain.template import Backoff, BackoffKind, StepDefaults, StepTemplate
from tasker_zmq.templates.fields import Section

RETRY_LIMIT_MAX: Final = 100
TIMEOUT_SECONDS_MAX: Final = 7 * 24 * 3600
BACKOFF_MS_MAX: Final = 24 * 3600 * 1000

BACKOFF_KINDS: Final[Mapping[str, BackoffKind]] = {
    "exponential": BackoffKind.EXPONENTIAL,
    "linear": BackoffKind.LINEAR,
    "constant": BackoffKind.CONSTANT,
    "fixed": BackoffKind.CONSTANT,
    "none": BackoffKind.CONSTANT,
}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """One layer; None where it says nothing. `section` is the place to point at."""

    section: Section
    name: str | None = None
    handler_class: str | None = None
    handler_config: dict[str, Any] | None = None
    depends_on: tuple[str, ...] | None = None
    description: str | None = None
    retryable: bool | None = None
    retry_limit: int | None = None
    backoff: str | None = None
    backoff_base_ms: int | None = None
    backoff_ceiling_ms: int | None = None
    timeout_seconds: float | None = None
    confirm_start: bool | None = None

    @property
    def label(self) -> str:
        return self.name or "?"


def laid_over(below: Draft, above: Draft) -> Draft:
    """What `above` says, else what `below` says; handler configurations are merged in depth."""
    said = {
        field.name: value
        for field in fields(above)
        if (value := getattr(above, field.name)) is not None
    }
    if above.handler_config is not None:
        said["handler_config"] = deep_merged(below.handler_config or {}, above.handler_config)
    return replace(below, **(said | {"name": below.name}))


def deep_merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key; lists, nulls and plain values replace what was there."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = deep_merged(old, value)
        else:
            merged[key] = value
    return merged


def resolved(
    draft: Draft, *, retry_limit: int, config_timeout: str | None, defaults: StepDefaults
) -> StepTemplate:
    """The step; where it says nothing the defaults hold, then the dialect's `retry_limit`.

    `config_timeout` is the key of the handler configuration that stands in for a timeout.
    """
    retryable = draft.retryable is not False
    said = (draft.retry_limit, defaults.retry_limit)
    tries = next((each for each in said if each is not None), retry_limit)
    timeout = draft.timeout_seconds
    if timeout is None and config_timeout is not None:
        timeout = _timeout_of_config(draft, config_timeout)
    return StepTemplate(
        name=draft.name or "",
        handler_class=HandlerClass(draft.handler_class or ""),
        handler_config=draft.handler_config or {},
        depends_on=draft.depends_on or (),
        description=draft.description or "",
        retryable=retryable,
        retry_limit=tries if retryable else 0,
        backoff=_backoff(draft, defaults.backoff),
        timeout_seconds=defaults.timeout_seconds if timeout is None else timeout,
        confirm_start=bool(draft.confirm_start),
    )


def _timeout_of_config(draft: Draft, key: str) -> float | None:
    value = (draft.handler_config or {}).get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if 0 < value <= TIMEOUT_SECONDS_MAX:
        return float(value)
    draft.section.warn(
        "handler_config",
        f"'{key}' of the handler configuration is {value:g} and is no timeout for the step;"
        f" one is above 0 and up to {TIMEOUT_SECONDS_MAX} seconds",
    )
    return None


def _backoff(draft: Draft, usual: Backoff) -> Backoff:
    """Where only one bound was given, the other gives way; two that contradict are refused."""
    if draft.backoff == "none":
        return Backoff(kind=BackoffKind.CONSTANT, base_ms=0, ceiling_ms=0)
    floor, ceiling = draft.backoff_base_ms, draft.backoff_ceiling_ms
    if floor is None:
        floor = usual.base_ms if ceiling is None else min(usual.base_ms, ceiling)
    if ceiling is None:
        ceiling = max(usual.ceiling_ms, floor)
    if ceiling < floor:
        draft.section.findings.refuse(
            draft.section.where,
            f"step '{draft.label}': the longest backoff ({ceiling} ms) is shorter than the first"
            f" ({floor} ms); raise 'max_backoff_ms' or lower 'backoff_base_ms'",
        )
    kind = BACKOFF_KINDS.get(draft.backoff or "", usual.kind)
    return Backoff(kind=kind, base_ms=floor, ceiling_ms=ceiling)


def backoff_word(section: Section, key: str) -> str | None:
    """One of the words for a kind of backoff, in either dialect."""
    value = section.text(key)
    if value is None or value in BACKOFF_KINDS:
        return value
    section.unwanted(key, wanted="one of " + ", ".join(BACKOFF_KINDS))
    return None
