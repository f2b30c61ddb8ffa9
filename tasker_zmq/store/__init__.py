"""Tables and statements: rows in, rows out; no decisions and no messages."""
