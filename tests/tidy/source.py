"""The project's own files, as the tidy tests see them."""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tasker_zmq"
TEXT_ENDINGS = (".py", ".sql", ".md", ".toml", ".yaml", ".yml", ".json", ".ini", ".mako", ".txt")
TEXT_NAMES = ("Makefile", "LICENSE", ".gitignore", "run", "make-venv")


@cache
def files() -> tuple[Path, ...]:
    """Every file that is committed or about to be; without git, every file that is not hidden."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [
            path
            for path in ROOT.rglob("*")
            if not any(part.startswith(".") for part in path.relative_to(ROOT).parts[:-1])
        ]
    return tuple(sorted(path for path in set(found) if path.is_file()))


def texts() -> tuple[Path, ...]:
    """The files that people read."""
    return tuple(path for path in files() if path.suffix in TEXT_ENDINGS or path.name in TEXT_NAMES)


def python(*folders: str) -> tuple[Path, ...]:
    """Python files, in the whole project or below `folders`."""
    roots = [ROOT / folder for folder in folders] or [ROOT]
    return tuple(
        path
        for path in files()
        if path.suffix == ".py" and any(root in path.parents for root in roots)
    )


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path), filename=str(path))


def listed(found: Iterable[str]) -> str:
    """What a failing check shows: one finding a line, so that none is cut off."""
    return "\n" + "\n".join(found)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Every module that `path` imports or may mean by `from package import name`."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def table_rows(page: str, *, below: str = "") -> Iterator[list[str]]:
    """The cells of every row of every Markdown table in `page`, heads and rules left out."""
    body = page.partition(below)[2] if below else page
    for line in body.splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|\-: ]+", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]
