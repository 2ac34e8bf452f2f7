"""What the routes get from the application."""

from typing import Annotated

from fastapi import Depends, Request

from service.benchmark.run import Benchmarks
from service.errors import NotReady
from service.recognizer import Recognizer
from service.routes.budget import UploadBudget


def get_recognizer(request: Request) -> Recognizer:
    """Returns the recognizer, once start-up has made one.

    Raises:
        NotReady: There is none yet.
    """
    recognizer: Recognizer | None = request.app.state.recognizer
    if recognizer is None:
        raise NotReady("the service is starting")
    return recognizer


def get_benchmarks(request: Request) -> Benchmarks:
    """Returns the benchmarks, once start-up has made them.

    Raises:
        NotReady: There are none yet.
    """
    benchmarks: Benchmarks | None = request.app.state.benchmarks
    if benchmarks is None:
        raise NotReady("the service is starting")
    return benchmarks


def get_budget(request: Request) -> UploadBudget:
    """Returns the application's budget for uploads."""
    budget: UploadBudget = request.app.state.upload_budget
    return budget


BenchmarksDependency = Annotated[Benchmarks, Depends(get_benchmarks)]
RecognizerDependency = Annotated[Recognizer, Depends(get_recognizer)]
BudgetDependency = Annotated[UploadBudget, Depends(get_budget)]
