"""Clients for a running service; needs neither a model nor ONNX Runtime. See docs/client.md."""

from ferserve.client.clients import AsyncClient, Client
from ferserve.client.failures import Retries, StreamClosed

__all__ = ["AsyncClient", "Client", "Retries", "StreamClosed"]
