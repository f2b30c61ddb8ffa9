"""The two commands: parse, one call, print."""
