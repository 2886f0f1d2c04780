"""Small vocabularies with marks, as the libraries of chat models make them."""

import io
import re

TEXT = "What is it? Is it big? Be brief. a cat no user assistant model system INST SYS"


def byte_pairs(marks):
    """Returns a `tokenizers.Tokenizer` of bytes and marks, that splits at nothing."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the", *marks]
    ids = {word: number for number, word in enumerate(words)}
    found = Tokenizer(models.BPE(vocab=ids, merges=[("t", "h"), ("th", "e")]))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens(list(marks))
    return found


def spaced(marks):
    """Returns one that puts a space before each text, as SentencePiece's do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = {chr(n) for n in range(32, 127)} | {"\n", "▁"}
    ids = {word: number for number, word in enumerate([*sorted(letters), *marks])}
    found = Tokenizer(models.BPE(vocab=ids, merges=[]))
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    found.decoder = decoders.Metaspace()
    found.add_special_tokens(list(marks))
    return found


def sentence_pieces(control=(), found=(), prefix=True):
    """Returns the content of a SentencePiece model of letters and marks.

    Args:
        control: marks that are never found in a text.
        found: marks that are, as Gemma's and Phi's.
        prefix: whether it puts a space before each text.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter([TEXT] * 4),
        model_writer=model,
        vocab_size=600,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=prefix,
        control_symbols=[x for x in control if x not in ("<s>", "</s>", "<bos>")],
        user_defined_symbols=list(found),
        bos_piece="<bos>" if "<bos>" in control else "<s>",
        eos_piece="<eos>" if "<bos>" in control else "</s>",
        pad_piece="<pad>",
        pad_id=3,
        minloglevel=2,
    )
    return model.getvalue()


def written(prompt, ids):
    """Returns the tokens of ids as one text, marks included."""
    text = "".join(prompt.words.token_of(int(number)) for number in ids)
    for spelled, meant in (("Ġ", " "), ("Ċ", "\n"), ("▁", " ")):
        text = text.replace(spelled, meant)
    # Letters that SentencePiece did not see in training are bytes.
    return re.sub(r"<0x(..)>", lambda found: chr(int(found[1], 16)), text)
