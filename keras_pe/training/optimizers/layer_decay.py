"""Smaller learning rates for layers further from the output, as `part_rates`."""

import re
from collections.abc import Iterable
from typing import Any

from keras_pe.models.core import PECore


def layer_decay_rates(
    model: PECore, decay: float, trained: Iterable[Any] | None = None
) -> dict[str, float]:
    """Returns the learning-rate factors of layer-wise decay, for `part_rates`.

    A tower's last norm, pooling and projection have the factor 1, as has the logit
    scale; its last block has `decay`, the one before it `decay**2`, and its embeddings,
    with the norm that follows them, `decay**(blocks + 1)`.

    Args:
        model: a built dual encoder.
        decay: factor from one layer to the one before it, above 0 and at most 1.
        trained: the variables that are trained; None for those of the model. Parts
            without any get no factor, for optimizers refuse such.

    Returns:
        Factor by regular expression of variable paths; empty for a decay of 1.

    Raises:
        ValueError: if the decay is not above 0 and at most 1.

    Source: Bao et al. 2021, "BEiT", appendix, table 10 (layer-wise learning rate
        decay); Howard and Ruder 2018, "ULMFiT", section 3.2.

    Example:
        >>> from keras_pe import PETextEncoder, PEVisionEncoder
        >>> sizes = {"hidden_dim": 8, "num_layers": 2, "num_heads": 2,
        ...     "intermediate_dim": 16, "output_dim": 8}
        >>> vision = PEVisionEncoder(image_size=16, patch_size=8, **sizes)
        >>> text = PETextEncoder(vocabulary_size=50, context_length=4, **sizes)
        >>> rates = layer_decay_rates(PECore(vision, text), 0.5)
        >>> [rates[f"pe_text_encoder/block_{n}/"] for n in (1, 2)]
        [0.25, 0.5]
    """
    if not 0 < decay <= 1:
        raise ValueError(f"layer decay={decay}: expected above 0, at most 1.")
    if decay == 1:
        return {}
    rates: dict[str, float] = {}
    for tower in (model.vision_encoder, model.text_encoder):
        name, blocks = re.escape(tower.name), tower.num_layers
        for number in range(1, blocks + 1):
            rates[f"{name}/block_{number}/"] = decay ** (blocks + 1 - number)
        rates[f"{name}/{EMBEDDINGS}"] = decay ** (blocks + 1)
    variables = model.trainable_variables if trained is None else trained
    paths = [variable.path for variable in variables]
    return {
        part: rate
        for part, rate in rates.items()
        if any(re.match(part, path) for path in paths)
    }


EMBEDDINGS = "(patch_embedding/|pre_norm/|token_embedding/|position_embedding)"
