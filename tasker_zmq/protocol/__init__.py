"""The wire: bytes to values and back, no I/O. docs/PROTOCOL.md is the published authority."""
