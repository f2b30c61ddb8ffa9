"""Ids as people type them."""

import re
from typing import Final

ID_MAX: Final = 10**18  # PostgreSQL's bigint ends a little above
_ID: Final = re.compile(r"[1-9][0-9]{0,17}")


def is_id(word: str) -> bool:
    """Whether `word` is written as an id; the beginning of a uuid with a zero is not."""
    return _ID.fullmatch(word) is not None
