"""What is refused before it is parsed."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WireLimits:
    """Sizes in bytes, depths and counts; the defaults are the protocol's."""

    result_bytes_max: int = 1 << 20
    steps_bytes_max: int = 4 << 20
    command_bytes_max: int = 1 << 20
    nesting_max: int = 64
    batch_steps_max: int = 1_000
    frames_max: int = 2
