"""Clients for a running service; needs neither a model nor ONNX Runtime. See docs/client.md."""

from service.client.aio import AsyncFerserveClient
from service.client.calls import RecognizeOptions
from service.client.payloads import ImageInput
from service.client.problems import BenchmarkFailed, ProblemError, StreamClosed
from service.client.retries import Retries
from service.client.sync import FerserveClient
from service.schemas import EmotionResponse, ModelList, StreamAnswer, StreamProblem

__all__ = [
    "AsyncFerserveClient",
    "BenchmarkFailed",
    "EmotionResponse",
    "FerserveClient",
    "ImageInput",
    "ModelList",
    "ProblemError",
    "RecognizeOptions",
    "Retries",
    "StreamAnswer",
    "StreamClosed",
    "StreamProblem",
]
