"""Makes sure that a value is JSON of a bearable size, whoever sent it."""

from typing import Any, Final

from tasker_zmq.templates.problems import Where, shown

DEPTH_MAX: Final = 64
VALUES_MAX: Final = 600_000
CHARACTERS_MAX: Final = 16 * 1024 * 1024
WHOLE_MIN: Final = -(2**63)
WHOLE_MAX: Final = 2**64 - 1


class NotPlainError(Exception):
    """The value cannot be kept as JSON; says where and why."""

    def __init__(self, where: Where, message: str) -> None:
        super().__init__(message)
        self.where = where
        self.message = message


def plain_copy(value: object) -> Any:
    """A copy that shares nothing with `value`, aliases unfolded; raises NotPlainError."""
    return _Copier().copied(value, ())


def weight(value: object) -> int:
    """How many values this is; a text counts once more for every 32 characters."""
    match value:
        case dict():
            return 1 + sum(weight(key) + weight(each) for key, each in value.items())
        case list():
            return 1 + sum(weight(each) for each in value)
        case str():
            return 1 + len(value) // 32
        case _:
            return 1


class _Copier:
    def __init__(self) -> None:
        self.values = 0
        self.characters = 0

    def copied(self, value: object, where: Where) -> Any:
        self.values += 1
        if self.values > VALUES_MAX:
            raise NotPlainError((), f"more than {VALUES_MAX} values, aliases unfolded")
        if len(where) > DEPTH_MAX:
            raise NotPlainError(where[:1], f"nested more than {DEPTH_MAX} levels deep")
        match value:
            case None | bool():
                return value
            case str():
                return self._text(value, where)
            case int() | float():
                return _number(value, where)
            case dict():
                return {
                    self._key(key, where): self.copied(each, (*where, key))
                    for key, each in value.items()
                }
            case list() | tuple():
                return [self.copied(each, (*where, index)) for index, each in enumerate(value)]
            case _:
                raise NotPlainError(where, f"{type(value).__name__} is not a JSON value")

    def _key(self, key: object, where: Where) -> str:
        if not isinstance(key, str):
            raise NotPlainError(where, f"keys are texts, found {shown(key)}; put it in quotes")
        return self._text(key, where)

    def _text(self, text: str, where: Where) -> str:
        self.characters += len(text)
        if self.characters > CHARACTERS_MAX:
            raise NotPlainError((), f"more than {CHARACTERS_MAX} characters, aliases unfolded")
        if "\0" in text:
            raise NotPlainError(where, "a text holds the character NUL, which cannot be stored")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise NotPlainError(where, "a text holds half of a surrogate pair, not a character")
        return text


def _number(number: float, where: Where) -> float:
    if isinstance(number, int):
        if not WHOLE_MIN <= number <= WHOLE_MAX:
            raise NotPlainError(where, "a number above 64 bits; write it as a text")
    elif not float("-inf") < number < float("inf"):
        raise NotPlainError(where, f"{number} is not a JSON number")
    return number
