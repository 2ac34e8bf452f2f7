"""``GET /v1/models``: the cards of the served models."""

from fastapi import APIRouter

from ferserve.api.dependencies import RecognizerDependency
from ferserve.api.openapi import openapi_responses
from ferserve.card import ModelCard
from ferserve.errors import (
    InvalidParameter,
    NotFound,
    NotReady,
    RateLimited,
    Unauthorized,
)
from ferserve.schemas import ModelList

router = APIRouter(prefix="/v1/models", tags=["models"])

_PROBLEMS = (Unauthorized, RateLimited, NotReady)


@router.get("", responses=openapi_responses(*_PROBLEMS))
async def list_models(recognizer: RecognizerDependency) -> ModelList:
    """Lists the served models: training, accuracy by split, limits, hash, licences."""
    return await recognizer.models()


@router.get("/{name}", responses=openapi_responses(NotFound, InvalidParameter, *_PROBLEMS))
async def get_model(name: str, recognizer: RecognizerDependency) -> ModelCard:
    """Returns one model's card."""
    cards = {card.name: card for card in recognizer.cards}
    if name not in cards:
        raise NotFound(f"there is no model {name!r}; the models are: {', '.join(cards)}")
    return cards[name]
