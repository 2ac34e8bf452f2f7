"""Load tests: open and closed loops of HTTP requests; see docs/loadtest.md.

Imports nothing itself, so that the command line can name its command without httpx and NumPy.
"""
