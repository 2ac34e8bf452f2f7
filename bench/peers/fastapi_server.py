"""Plain FastAPI: ``session.run`` in the thread pool of 40 that ``def`` endpoints run in.

https://fastapi.tiangolo.com/async/
"""

from typing import Annotated

import uvicorn
from common import MODEL, PORT, Classifier, decode
from fastapi import Body, FastAPI

classifier = Classifier(MODEL)
app = FastAPI()


@app.post("/classify")
def classify(face: Annotated[bytes, Body(media_type="image/png")]) -> dict[str, float]:
    return classifier([decode(face)])[0]


@app.get("/ready")
def ready() -> None:
    pass


if __name__ == "__main__":
    uvicorn.run(app, port=PORT, log_level="warning", access_log=False)
