"""fer with its defaults, in a process for each processor: its interpreter takes one call at a time.

https://github.com/justinshenk/fer#usage
"""

import os
from typing import Annotated

import cv2
import numpy as np
import uvicorn
from fastapi import Body, FastAPI
from fer.fer import FER

detector = FER()
app = FastAPI()


@app.post("/classify")
async def classify(
    photo: Annotated[bytes, Body(media_type="image/jpeg")],
) -> list[dict[str, float]]:
    """Finds and rates faces; a small picture is one already."""
    pixels = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    rows, columns = pixels.shape[:2]
    # fer widens a place by ten pixels on each side.
    places = [(10, 10, columns - 20, rows - 20)] if max(rows, columns) <= 64 else None
    found = detector.detect_emotions(pixels, places)
    return [{name: float(score) for name, score in face["emotions"].items()} for face in found]


@app.get("/ready")
def ready() -> None:
    pass


if __name__ == "__main__":
    uvicorn.run(
        "fer_server:app",
        port=int(os.environ["PEER_PORT"]),
        workers=int(os.environ["PEER_CORES"]),
        log_level="warning",
        access_log=False,
    )
