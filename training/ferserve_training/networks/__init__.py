"""The networks, each a module with ``build``."""

import importlib

import keras


def build_network(
    name: str, side: int | None = None, heads: int = 1, *, sharpen: bool = False
) -> keras.Model:
    """Builds the network of ``ferserve_training.networks.<name>`` with random weights.

    Args:
        name: The network's module.
        side: Pixels that it upsamples faces to; the module's own default if None.
        heads: Answers of seven logits each, side by side.
        sharpen: Whether it sharpens blurred faces first; only the light network can.

    Returns:
        A model from uint8 faces ``[N, 48, 48]`` to float32 logits ``[N, 7 · heads]``.
    """
    settings: dict[str, int] = {} if side is None else {"side": side}
    if sharpen:
        settings["sharpen"] = sharpen
    module = importlib.import_module(f"ferserve_training.networks.{name}")
    return module.build(heads=heads, **settings)
