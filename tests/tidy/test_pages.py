"""The pages lead somewhere and are as new as the code."""

import re
import runpy
from pathlib import Path
from urllib.parse import unquote

from tests.tidy import source

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*?) *#*$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    return [path for path in source.files() if path.suffix == ".md"]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, by GitHub's rule."""
    headings = HEADING.findall(FENCE.sub("", source.text(page)))
    plain = [re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def leads_nowhere(page: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return False
    name, _, anchor = unquote(link).partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists():
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in anchors(target)


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = [
        f"{source.shown(page)}: {link}"
        for page in pages()
        for link in LINK.findall(FENCE.sub("", source.text(page)))
        if leads_nowhere(page, link)
    ]
    assert not broken, source.listed(broken)


def test_generated_pages_are_what_make_docs_would_write_now() -> None:
    generator = runpy.run_path(str(source.ROOT / "docs" / "generate.py"))
    assert generator["old_pages"]() == [], "run `make docs`"
