"""The decisions, as pure functions over plain values: no clock, no chance, no I/O."""
