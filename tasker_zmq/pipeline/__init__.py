"""The road: one module per stage, and the tick that runs them in one transaction."""
