"""Tiny presets of KerasHub in folders: a random language model and its vocabulary."""

from keras_pe.language.chat_templates import TEMPLATES
from tests.language.chat_models import byte_pairs, sentence_pieces
from tests.small_models import perturb

# Family: tokenizer, template, marks of KerasHub's own beside the template's.
KINDS = {
    "LlamaBackbone": ("LlamaTokenizer", "llama2", ()),
    "Llama3Backbone": ("Llama3Tokenizer", "llama3", ("<|end_of_text|>",)),
    "MistralBackbone": ("MistralTokenizer", "mistral-v1", ()),
    "QwenBackbone": ("QwenTokenizer", "qwen2.5", ("<|endoftext|>",)),
    "Qwen3Backbone": ("Qwen3Tokenizer", "qwen3", ("<|endoftext|>",)),
    "GemmaBackbone": ("GemmaTokenizer", "gemma", ()),
    "Gemma3Backbone": ("Gemma3Tokenizer", "gemma", ()),
    "Phi3Backbone": ("Phi3Tokenizer", "phi3", ("<|endoftext|>",)),
    "SmolLM3Backbone": (
        "SmolLM3Tokenizer",
        "smollm3",
        ("<|begin_of_text|>", "<|end_of_text|>"),
    ),
}
PIECES = ("LlamaBackbone", "MistralBackbone", "Phi3Backbone")
GEMMA = ("GemmaBackbone", "Gemma3Backbone")
MORE_IDS = 7  # that a decoder knows and no vocabulary has


def backbone(family, words, seed=0, **changes):
    """Returns a random model of a family that knows so many words."""
    import keras_hub

    from tests.language.test_kerashub import COMMON, OPTIONS

    sizes = {**OPTIONS.get(family, COMMON), "vocabulary_size": words, **changes}
    return perturb(getattr(keras_hub.models, family)(**sizes), seed)


def tokenizer(family, marks=None):
    """Returns KerasHub's tokenizer of a family, with its template's marks."""
    import keras_hub

    name, template, more = KINDS[family]
    make = getattr(keras_hub.tokenizers, name)
    marks = TEMPLATES[template].tokens if marks is None else marks
    if family in PIECES:
        return make(sentence_pieces(("<s>", "</s>"), [*marks, *more]))
    if family in GEMMA:
        found = [mark for mark in marks if mark != "<bos>"]
        options = {} if family == "GemmaBackbone" else {"has_vision_tokens": False}
        return make(sentence_pieces(("<bos>",), found, prefix=False), **options)
    words = byte_pairs([*marks, *more]).get_vocab()
    return make(vocabulary=words, merges=["t h", "th e"])


def save(folder, family, seed=0, marks=None, **changes):
    """Writes a preset and returns its model."""
    words = tokenizer(family, marks)
    if family == "LlamaBackbone":  # 0.32 does not write that one is tied
        changes["tie_word_embeddings"] = False
    made = backbone(family, words.vocabulary_size() + MORE_IDS, seed, **changes)
    made.save_to_preset(str(folder))
    words.save_to_preset(str(folder))
    return made
