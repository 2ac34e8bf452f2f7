"""``GET /v1/policy``: what the service is for, what it is not, and what it keeps."""

from fastapi import APIRouter

from ferserve.api.dependencies import RecognizerDependency
from ferserve.api.openapi import openapi_responses
from ferserve.errors import NotReady
from ferserve.policy import Policy, policy

router = APIRouter(prefix="/v1/policy", tags=["policy"])


@router.get("", responses=openapi_responses(NotReady))
async def get_policy(recognizer: RecognizerDependency) -> Policy:
    """Says what the scores mean, where the law forbids their use, and what is logged."""
    return policy(recognizer.settings)
