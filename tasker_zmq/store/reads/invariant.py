"""What an invariant is; the modules `invariants_of_*` say which there are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Invariant:
    """What always holds, and the query that finds where it does not."""

    name: str
    sentence: str
    sql: str
