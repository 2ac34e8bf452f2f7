"""What the routes get from the application."""

from typing import Annotated

from fastapi import Depends, Request

from service.errors import NotReady
from service.recognizer import Recognizer


def get_recognizer(request: Request) -> Recognizer:
    """Returns the recognizer, once start-up has made one.

    Raises:
        NotReady: There is none yet.
    """
    recognizer: Recognizer | None = request.app.state.recognizer
    if recognizer is None:
        raise NotReady("the service is starting")
    return recognizer


RecognizerDependency = Annotated[Recognizer, Depends(get_recognizer)]
