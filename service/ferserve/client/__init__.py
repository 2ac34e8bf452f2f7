"""Clients for a running service; needs neither a model nor ONNX Runtime. See docs/client.md."""

from ferserve.client.aio import AsyncClient
from ferserve.client.problems import StreamClosed
from ferserve.client.retries import Retries
from ferserve.client.sync import Client

__all__ = ["AsyncClient", "Client", "Retries", "StreamClosed"]
