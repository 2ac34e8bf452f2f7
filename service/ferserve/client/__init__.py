"""Clients for a running service; needs neither a model nor ONNX Runtime. See docs/client.md."""

from ferserve.client.aio import AsyncFerserveClient
from ferserve.client.calls import RecognizeOptions
from ferserve.client.payloads import ImageInput
from ferserve.client.problems import StreamClosed
from ferserve.client.retries import Retries
from ferserve.client.sync import FerserveClient
from ferserve.errors import Refusal
from ferserve.schemas import EmotionResponse, ModelList, StreamAnswer, StreamProblem

__all__ = [
    "AsyncFerserveClient",
    "EmotionResponse",
    "FerserveClient",
    "ImageInput",
    "ModelList",
    "RecognizeOptions",
    "Refusal",
    "Retries",
    "StreamAnswer",
    "StreamClosed",
    "StreamProblem",
]
