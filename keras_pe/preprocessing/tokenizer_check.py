"""The one check that a tokenizer is the one a model was trained with."""

from typing import Any


def check_tokenizer(tokenizer: Any, model: Any) -> None:
    """Refuses a tokenizer whose ids mean something else to the model, or are too many.

    Of another vocabulary even ids that exist are those of other words, and the ids that
    start and end a text differ. A context shorter than the model's is fine: texts are
    cut earlier.

    Args:
        tokenizer: a `PETokenizer`. Of any other callable what it does not tell, by
            attributes of the same names, is not compared.
        model: a `PECore` or `PETextEncoder`.

    Raises:
        ValueError: naming both sizes.

    Example:
        >>> from keras_pe import PETextEncoder, PETokenizer
        >>> tower = PETextEncoder(vocabulary_size=600, context_length=8, hidden_dim=32,
        ...     num_layers=1, num_heads=4, intermediate_dim=64, output_dim=16)
        >>> check_tokenizer(PETokenizer(context_length=8, vocabulary_size=600), tower)
    """
    tower = getattr(model, "text_encoder", model)
    vocabulary = getattr(tokenizer, "vocabulary_size", tower.vocabulary_size)
    context = getattr(tokenizer, "context_length", tower.context_length)
    if vocabulary == tower.vocabulary_size and context <= tower.context_length:
        return
    raise ValueError(
        f"The tokenizer does not fit the model: it makes {context} ids a text of "
        f"{vocabulary}, and the model reads up to {tower.context_length} of "
        f"{tower.vocabulary_size}. Load both from one preset with "
        f"PETokenizer.from_preset, or use PETokenizer(context_length="
        f"{tower.context_length}, vocabulary_size={tower.vocabulary_size})."
    )
