"""Commands: a mapping from type to handler, and one module per family of them."""
