"""What the steps themselves wrote down about their runs: the account that is not the engine's."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of one step; times are seconds since 1970, `ended_at` None for one that was cut."""

    run_id: str
    task_id: int
    step_id: int
    step_name: str
    attempt: int
    idempotency_key: str
    process_id: int
    started_at: float
    given: Mapping[str, str]  # the parent's name: the token of the run whose result was handed on
    ended_at: float | None
    failed: bool

    @property
    def succeeded(self) -> bool:
        return self.ended_at is not None and not self.failed


@dataclass(frozen=True, kw_only=True)
class WitnessAccount:
    """All runs, in the order in which they began."""

    runs: Sequence[Run]

    @property
    def by_step(self) -> Mapping[int, Sequence[Run]]:
        found: dict[int, list[Run]] = defaultdict(list)
        for each in self.runs:
            found[each.step_id].append(each)
        return found

    @property
    def handed_on(self) -> Mapping[tuple[int, str], frozenset[str]]:
        """By task and step name: the tokens that children were given as that step's result."""
        found: dict[tuple[int, str], set[str]] = defaultdict(set)
        for each in self.runs:
            for name, token in each.given.items():
                found[each.task_id, name].add(token)
        return {key: frozenset(tokens) for key, tokens in found.items()}


def read_account(path: Path) -> WitnessAccount:
    """What stands in the witness file; none where no step ran yet."""
    if not path.exists():
        return WitnessAccount(runs=())
    lines = path.read_text(encoding="utf-8").splitlines()
    told: list[dict[str, Any]] = [json.loads(line) for line in lines]
    ends = {each["run"]: each for each in told if each["what"] != "start"}
    return WitnessAccount(
        runs=tuple(_run(each, ends.get(each["run"])) for each in told if each["what"] == "start")
    )


def _run(start: Mapping[str, Any], end: Mapping[str, Any] | None) -> Run:
    return Run(
        run_id=start["run"],
        task_id=start["task"],
        step_id=start["step"],
        step_name=start["name"],
        attempt=start["attempt"],
        idempotency_key=start["key"],
        process_id=start["process"],
        started_at=start["at"],
        given=start["given"],
        ended_at=None if end is None else end["at"],
        failed=end is not None and end["what"] == "failure",
    )
