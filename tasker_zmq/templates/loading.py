"""Texts, files, folders and mappings from the wire -> templates or problems.

Both dialects are read; see `older` and `newer` for what their words mean. The overrides of the
chosen environment are applied, those of the others only checked. Where a step says nothing, the
`defaults` hold; without any, our own.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasker_zmq.domain.template import StepDefaults
from tasker_zmq.templates.assembly import assembled
from tasker_zmq.templates.document import BYTES_MAX, UnreadableError, read_document
from tasker_zmq.templates.plain import NotPlainError, plain_copy
from tasker_zmq.templates.problems import Findings, Loaded, Problem, Where, path_text, shown


def load_text(
    text: str, *, source: str, environment: str, defaults: StepDefaults | None = None
) -> Loaded:
    """One YAML document; `source` is the name that problems give it."""
    try:
        document = read_document(text)
    except UnreadableError as error:
        return _refused(source, error.line, error.message)
    findings = Findings(source, document.line_of)
    repeated = tuple(Problem(source, line, "", message) for line, message in document.repeated)
    loaded = _load(document.root.value, findings, environment=environment, defaults=defaults)
    if not repeated:
        return loaded
    return Loaded(None, (*repeated, *loaded.problems), loaded.warnings)


def load_mapping(
    mapping: Mapping[str, Any],
    *,
    source: str,
    environment: str,
    defaults: StepDefaults | None = None,
) -> Loaded:
    """A template that came as JSON; the same checks, no lines."""
    findings = Findings(source, _no_line)
    return _load(dict(mapping), findings, environment=environment, defaults=defaults)


def load_file(path: Path, *, environment: str, defaults: StepDefaults | None = None) -> Loaded:
    """One file; one that cannot be read is a problem like any other."""
    source = str(path)
    try:
        if not path.is_file():
            return _refused(source, None, "no such file; a YAML file with a template was wanted")
        with path.open("rb") as stream:
            raw = stream.read(BYTES_MAX + 1)
    except OSError as error:
        return _refused(source, None, f"cannot be read: {error.strerror}")
    if len(raw) > BYTES_MAX:
        return _refused(source, None, f"the file is longer than {BYTES_MAX} bytes; split it")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return _refused(source, line, "the file is not UTF-8 text; save it as UTF-8")
    return load_text(text, source=source, environment=environment, defaults=defaults)


def load_folder(
    path: Path, *, environment: str, defaults: StepDefaults | None = None
) -> tuple[Loaded, ...]:
    """Every *.yaml and *.yml below `path`, in order; a workflow that stands in two is refused."""
    if not path.is_dir():
        return (_refused(str(path), None, "no such folder; one with templates was wanted"),)
    files = sorted(each for ending in ("*.yaml", "*.yml") for each in path.rglob(ending))
    first: dict[str, Path] = {}
    found = []
    for file in files:
        loaded = load_file(file, environment=environment, defaults=defaults)
        if loaded.template is not None:
            name = loaded.template.full_name
            if first.setdefault(name, file) != file:
                message = f"{name} stands in {first[name]} already; change the version or the name"
                loaded = replace(
                    loaded, template=None, problems=(Problem(str(file), 1, "", message),)
                )
        found.append(loaded)
    return tuple(found)


def _load(
    value: object, findings: Findings, *, environment: str, defaults: StepDefaults | None
) -> Loaded:
    try:
        source = plain_copy(value)
    except NotPlainError as error:
        place = f"'{path_text(error.where)}': " if error.where else ""
        findings.refuse(error.where, place + error.message)
        return Loaded(None, findings.problems, findings.warnings)
    if not isinstance(source, dict):
        findings.refuse((), f"a template is a mapping, found {shown(source)}")
        return Loaded(None, findings.problems, findings.warnings)
    template = assembled(
        source, findings, environment=environment, defaults=defaults or StepDefaults()
    )
    problems = findings.problems
    return Loaded(None if problems else template, problems, findings.warnings)


def _refused(source: str, line: int | None, message: str) -> Loaded:
    return Loaded(None, (Problem(source, line, "", message),), ())


def _no_line(where: Where) -> int | None:
    return None
