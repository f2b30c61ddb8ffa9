"""The worker: the handler API, and the runtime that fetches steps, runs them and reports."""
