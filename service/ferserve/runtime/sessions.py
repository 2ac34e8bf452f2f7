"""A model's bytes → ONNX Runtime sessions on one provider."""

import hashlib
import logging

import onnxruntime as ort

from ferserve.runtime.errors import ModelError
from ferserve.runtime.float16 import to_float16
from ferserve.runtime.int8 import Ranges, to_int8
from ferserve.runtime.options import RuntimeOptions
from ferserve.runtime.providers import (
    CPU,
    TENSORRT,
    preload_libraries,
    provider_list,
    wanted_provider,
)

logger = logging.getLogger(__name__)


class Sessions:
    """Opens sessions of one model.

    Attributes:
        provider: The execution provider in use.
        options: As given.
        any_size: A session that takes batches of every size.
    """

    def __init__(
        self,
        content: bytes,
        name: str,
        options: RuntimeOptions,
        ranges: Ranges | None = None,
    ) -> None:
        """Finds out which provider works and opens the first session on it.

        Args:
            content: The ONNX file.
            name: Of the file, for messages.
            options: Where and how it runs.
            ranges: What ``precision="int8"`` needs, see :mod:`ferserve.runtime.int8`.

        Raises:
            ModelError: ONNX Runtime cannot load it, or what was asked for is not there.
        """
        self.options = options
        self._name = name
        self._content = content
        self._digest = hashlib.sha256(content).hexdigest()
        self.provider = wanted_provider(options)
        if options.precision == "float16" and self.provider != TENSORRT:
            self._content = to_float16(content, name, options.cache_dir)
        if options.precision == "int8":
            if self.provider != CPU:
                raise ModelError(
                    "precision=int8 is there on the CPU only; provider=cpu asks for it"
                )
            self._content = to_int8(content, name, ranges or {}, options.cache_dir)
        if self.provider != CPU:
            preload_libraries()
        self.any_size = self._open_first()
        if options.precision == "tf32" and self.provider == CPU:
            raise ModelError("precision=tf32 is there on NVIDIA's GPUs only; this runs on the CPU")

    def open(self, batch: int, *, capture: bool = False) -> ort.InferenceSession:
        """Opens a session that takes batches of one size only.

        With the size fixed ONNX Runtime computes beforehand what depends on shapes alone, and
        every node that is left runs on the device, as CUDA graphs need it.

        Args:
            batch: The size.
            capture: Whether to capture the session's runs in a CUDA graph; nothing on the CPU.

        Raises:
            ModelError: ONNX Runtime cannot do that.
        """
        dimension = self.any_size.get_inputs()[0].shape[0]
        if not isinstance(dimension, str):
            raise ModelError(f"{self._name}: its batch dimension has no name, so cannot be fixed")
        settings = self._session_options()
        settings.add_free_dimension_override_by_name(dimension, batch)
        session = self._open(settings, self.provider, capture=capture, batch=batch)
        if session.get_providers()[0] != self.provider:
            raise ModelError(f"{self._name}: {self.provider} failed at a batch of {batch}")
        return session

    def _open_first(self) -> ort.InferenceSession:
        asked = self.options.provider != "auto"
        try:
            session = self._open(self._session_options(), self.provider)
        except ModelError:
            if asked or self.provider == CPU:
                raise
            session = self._open(self._session_options(), CPU)
        active: str = session.get_providers()[0]
        if active == self.provider:
            return session
        if asked:
            raise ModelError(
                f"provider={self.options.provider}, but ONNX Runtime fell back to {active}; its "
                "log says which library of CUDA, cuDNN or TensorRT it missed"
            )
        logger.warning("CUDA is built in but does not work here; %s runs on the CPU", self._name)
        self.provider = active
        return session

    def _open(
        self, settings: ort.SessionOptions, provider: str, *, capture: bool = False, batch: int = 0
    ) -> ort.InferenceSession:
        engines = f"{self._digest}-{batch}"
        providers = provider_list(provider, self.options, capture=capture, engines=engines)
        try:
            # No fallback: a session that failed once would silently compute on the CPU.
            return ort.InferenceSession(self._content, settings, providers, enable_fallback=0)
        except Exception as error:  # ONNX Runtime raises a class of its own for each kind
            raise ModelError(
                f"{self._name}: ONNX Runtime cannot load it for {provider}: {error}"
            ) from error

    def _session_options(self) -> ort.SessionOptions:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = self.options.intra_op_threads
        settings.inter_op_num_threads = 1
        # Threads that spin while idle take the processors from decoding and from other workers.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # Weights stored as int8 + DequantizeLinear become float32 once, at load; without this
        # ONNX Runtime keeps them apart and runs a third slower. Of what is computed in int8 it has
        # to keep the quantization.
        in_int8 = self.options.precision == "int8"
        settings.add_session_config_entry("session.disable_quant_qdq", "0" if in_int8 else "1")
        return settings
