"""Facial-expression recognition: in this process, and as a service.

``Recognizer`` and ``Client``, and their asynchronous forms, have the same methods; what they refuse
is a ``Refusal``. Each name is loaded on first use.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferserve.api.app import create_app
    from ferserve.client import AsyncClient, Client
    from ferserve.errors import Refusal
    from ferserve.recognizer import AsyncRecognizer, Recognizer
    from ferserve.settings import Settings

__all__ = [
    "AsyncClient",
    "AsyncRecognizer",
    "Client",
    "Recognizer",
    "Refusal",
    "Settings",
    "create_app",
]

_HOMES = {
    "AsyncClient": "ferserve.client",
    "AsyncRecognizer": "ferserve.recognizer",
    "Client": "ferserve.client",
    "Recognizer": "ferserve.recognizer",
    "Refusal": "ferserve.errors",
    "Settings": "ferserve.settings",
    "create_app": "ferserve.api.app",
}

# ONNX Runtime, from 1.29 on, would otherwise keep a device id and a database below ~/.cache and
# report to its maker over the network. It reads this once, when it is first imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        from ferserve.errors import NO_RUNTIME

        raise ModuleNotFoundError(NO_RUNTIME, name=error.name) from error
