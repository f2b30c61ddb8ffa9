"""Ours beside DBOS and PgQueuer: one server, the same work, round by round. `make bench-peers`."""
