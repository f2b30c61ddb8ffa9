"""What the global options chose, for whichever subcommand runs; settings are read on first use."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tasker_zmq.settings import Loaded, Settings


class Invocation:
    """One run of `tasker-zmq`; click hands it to commands under `click.pass_obj`."""

    def __init__(
        self,
        *,
        config: Path | None = None,
        environment: str | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> None:
        self.config = config
        self.environment = environment
        self._overrides = dict(overrides or {})

    @cached_property
    def loaded(self) -> "Loaded":
        """The settings with their origins; warnings go to stderr, once."""
        loaded = self.load()
        for warning in loaded.warnings:
            click.echo(f"warning: {warning}", err=True)
        return loaded

    @property
    def settings(self) -> "Settings":
        return self.loaded.settings

    def with_overrides(self, overrides: Mapping[str, object]) -> "Invocation":
        """The same invocation with a subcommand's own flags on top; None means not given."""
        given = {key: value for key, value in overrides.items() if value is not None}
        return Invocation(
            config=self.config,
            environment=self.environment,
            overrides={**self._overrides, **given},
        )

    def load(self, *, config: Path | None = None, environment: str | None = None) -> "Loaded":
        """Read the settings anew, from another file or for another environment if given."""
        # Imported here, for --help and --version need no settings and should be instant.
        from tasker_zmq.settings import load, process_variables

        return load(
            config=config or self.config,
            environment=environment or self.environment,
            variables=process_variables(),
            overrides=self._overrides,
        )
