"""Problems of the API, answered from outside the application."""

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from ferserve import errors
from ferserve.api import problems
from ferserve.api.middleware import SECURITY_HEADERS


async def answer_problem(
    problem: errors.Refusal, request_id: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answers a request as the application would."""
    scope = {**scope, "state": {"request_id": request_id}}
    response = await problems.handle(Request(scope), problem)
    response.headers.update(SECURITY_HEADERS)
    await response(scope, receive, send)
