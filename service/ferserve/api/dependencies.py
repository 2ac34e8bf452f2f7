"""What the routes get from the application.

Coroutines, though they wait for nothing: FastAPI hands every plain function to a thread.
"""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from ferserve.api.budget import UploadBudget
from ferserve.benchmark.run import Benchmarks
from ferserve.errors import NotReady
from ferserve.recognizer import AsyncRecognizer


async def get_recognizer(connection: HTTPConnection) -> AsyncRecognizer:
    """Returns the recognizer, once start-up has made one.

    Raises:
        NotReady: There is none yet.
    """
    recognizer: AsyncRecognizer | None = connection.app.state.recognizer
    if recognizer is None:
        raise NotReady("the service is starting")
    return recognizer


async def get_benchmarks(connection: HTTPConnection) -> Benchmarks:
    """Returns the benchmarks, once start-up has made them.

    Raises:
        NotReady: There are none yet.
    """
    benchmarks: Benchmarks | None = connection.app.state.benchmarks
    if benchmarks is None:
        raise NotReady("the service is starting")
    return benchmarks


async def get_budget(connection: HTTPConnection) -> UploadBudget:
    """Returns the application's budget for uploads."""
    budget: UploadBudget = connection.app.state.upload_budget
    return budget


BenchmarksDependency = Annotated[Benchmarks, Depends(get_benchmarks)]
RecognizerDependency = Annotated[AsyncRecognizer, Depends(get_recognizer)]
BudgetDependency = Annotated[UploadBudget, Depends(get_budget)]
