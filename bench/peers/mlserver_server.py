"""MLServer with a runtime of its own; settings come from the variables ``MLSERVER_…``.

https://docs.seldon.ai/mlserver/user-guide/custom,
https://docs.seldon.ai/mlserver/user-guide/adaptive-batching,
https://docs.seldon.ai/mlserver/user-guide/parallel-inference
"""

import numpy as np
from common import MODEL, Classifier, decode
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Emotion(MLModel):
    async def load(self) -> bool:
        self.classifier = Classifier(MODEL)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Rates image files, base64 in the protocol's BYTES tensor."""
        images = self.decode(payload.inputs[0], default_codec=Base64Codec)
        answers = self.classifier(decode(image) for image in images)
        rows = np.array([list(answer.values()) for answer in answers], np.float32)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", rows)]
        )
