"""How many steps a worker may hold, and how it shares them out among the cores that send them."""

from collections.abc import Sequence


def whole_credit(concurrency: int, factor: float) -> int:
    """How many steps a worker may hold in all, whoever sent them."""
    return max(1, round(concurrency * factor))


def granted_credit(whole: int, granted: int | None) -> int:
    """What one core may send of the whole; None: this worker has no other core."""
    return whole if granted is None else max(1, min(granted, whole))


def shares(whole: int, wants: Sequence[int]) -> list[int]:
    """Share `whole` out among cores that want so much each: at least 1 for everyone.

    Who wants little gets it, and the others get equal parts of the rest. What nobody wants is
    spread over all, for what may come; so the sum is `max(whole, len(wants))`.
    """
    given = [1] * len(wants)
    left = whole - len(wants)
    while wants and left > 0:
        hungry = [place for place, want in enumerate(wants) if want > given[place]]
        places = (hungry or range(len(wants)))[:left]
        part = left // len(places)
        for place in places:
            more = min(wants[place] - given[place], part) if hungry else part
            given[place] += more
            left -= more
    return given
