"""The page about reliability names tests that there are, and every invariant."""

import re

from tasker_zmq.store.reads.invariants import INVARIANTS
from tests.tidy import source

PAGE = source.text(source.ROOT / "docs" / "RELIABILITY.md")


def test_the_page_names_tests_that_there_are() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)
    assert named
    lost = [
        f"{file}::{test}"
        for file, test in named
        if not (source.ROOT / file).exists()
        or f"def {test}(" not in source.text(source.ROOT / file)
    ]
    assert not lost, source.listed(lost)


def test_the_page_lists_the_invariants_as_they_are() -> None:
    table = PAGE.partition("| Name | What holds |\n|---|---|\n")[2].partition("\n\n")[0]
    held = [f"| {each.name} | {each.sentence} |" for each in INVARIANTS]
    assert table.splitlines() == held
