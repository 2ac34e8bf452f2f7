"""Load tests: open and closed loops of HTTP requests; see docs/loadtest.md."""
