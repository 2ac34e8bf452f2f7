"""The `ferserve` command."""
