"""Chat models are asked in the words of their published templates, and no others."""

import dataclasses
import pickle

import numpy as np
import pytest

from keras_pe.data.packing import packed_row
from keras_pe.language.chat_prompt import SYSTEM, ChatPrompt
from keras_pe.language.chat_templates import CHATML, GEMMA, LLAMA2, TEMPLATES
from keras_pe.language.chat_tokenizers import SentencePieces, chat_tokenizer
from tests.language.chat_models import byte_pairs, sentence_pieces, spaced, written

pytestmark = [pytest.mark.quick, pytest.mark.once]

TURNS = [("What is it?", "a cat"), ("Is it big?", "no")]
CHATML_TEXT = (
    "<|im_start|>system\nBe brief.<|im_end|>\n"
    "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n{0}a cat<|im_end|>"
    "\n<|im_start|>user\nIs it big?<|im_end|>\n<|im_start|>assistant\n{0}no<|im_end|>"
)
# What each one's publisher prints of such a conversation; sources are beside the
# templates. Where a vocabulary puts a space before each text, it is written here.
PUBLISHED = {
    "chatml": CHATML_TEXT.format(""),
    "qwen2.5": CHATML_TEXT.format(""),
    "qwen3": CHATML_TEXT.format("<think>\n\n</think>\n\n"),
    "smollm3": CHATML_TEXT.format("<think>\n\n</think>\n"),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
        "What is it?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        "a cat<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
        "Is it big?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        "no<|eot_id|>"
    ),
    "gemma": (
        "<bos><start_of_turn>user\nBe brief.\n\nWhat is it?<end_of_turn>\n"
        "<start_of_turn>model\na cat<end_of_turn>\n"
        "<start_of_turn>user\nIs it big?<end_of_turn>\n<start_of_turn>model\nno"
        "<end_of_turn>"
    ),
    "llama2": (
        "<s> [INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhat is it? [/INST] a cat </s>"
        "<s> [INST] Is it big? [/INST] no </s>"
    ),
    "mistral": (
        "<s>[INST] Be brief.\n\nWhat is it?[/INST] a cat</s>"
        "[INST] Is it big?[/INST] no</s>"
    ),
    "mistral-v1": (
        "<s> [INST] Be brief.\n\nWhat is it? [/INST] a cat</s>"
        " [INST] Is it big? [/INST] no</s>"
    ),
    "phi3": (
        "<s><|system|> Be brief.<|end|><|user|> What is it?<|end|><|assistant|> a cat"
        "<|end|><|user|> Is it big?<|end|><|assistant|> no<|end|>"
    ),
}
SPACED = ("llama2", "mistral", "mistral-v1", "phi3")


def prompt_of(name, image_tokens=3, **options):
    template = TEMPLATES[name]
    words = (spaced if name in SPACED else byte_pairs)(template.tokens)
    options = {"system": "Be brief.", **options}
    return ChatPrompt(words, image_tokens, template=template, **options)


def test_all_templates_are_tested():
    assert set(PUBLISHED) == set(TEMPLATES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_conversation_reads_as_published(name):
    prompt = prompt_of(name)
    found = prompt.conversation(TURNS, image=False)
    assert written(prompt, found.token_ids) == PUBLISHED[name]
    assert not found.image.any()
    # What is learned: the answers with their ends, and nothing else.
    stop = TEMPLATES[name].stop
    between = " " if name in SPACED else ""
    after = " " if name == "llama2" else ""
    learned = written(prompt, found.token_ids[found.answer])
    assert learned == "".join(f"{between}{a}{after}{stop}" for _, a in TURNS)
    assert prompt.text(found.token_ids[found.answer]) == "a cat"
    asked = prompt.question("What is it?", image=False)
    np.testing.assert_array_equal(asked.token_ids, found.token_ids[: len(asked)])
    assert not asked.answer.any()
    assert int(found.answer.argmax()) == len(asked)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_image_stands_where_the_words_of_the_user_begin(name):
    prompt = prompt_of(name)
    found = prompt.conversation(TURNS)
    assert found.image.sum() == 3
    place = int(found.image.argmax())
    assert found.image[place : place + 3].all()
    before = written(prompt, found.token_ids[:place])
    after = written(prompt, found.token_ids[place + 3 :])
    assert after.startswith(" What" if name in SPACED else "What")
    # Llama 2's space before the words belongs to what is before the image.
    text = before + after
    if not before.endswith(" ") and name not in SPACED:
        assert text == PUBLISHED[name]
    assert text.replace(" ", "") == PUBLISHED[name].replace(" ", "")
    assert int(found.answer.sum()) == int(
        prompt.conversation(TURNS, image=False).answer.sum()
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_packed_rows_predict_each_answer_from_the_token_before(name):
    prompt = prompt_of(name)
    document = prompt.conversation(TURNS)
    row = packed_row([document, document], 2 * len(document) + 2, 64)
    learned = document.token_ids[document.answer]
    count = len(learned)
    np.testing.assert_array_equal(row["answer_ids"][:count], learned)
    places = row["answer_places"][:count]
    np.testing.assert_array_equal(places, np.flatnonzero(document.answer) - 1)
    assert row["answer_weights"].sum() == 2 * count


@pytest.mark.parametrize("name", ["chatml", "qwen3", "llama3", "gemma"])
@pytest.mark.parametrize("question", ["the 12 the", " What?", "\n\nWhat?", "x \n", "é"])
def test_ids_are_those_of_the_whole_text(name, question):
    """The slow, obvious way: the library finds the marks in the whole text."""
    prompt = prompt_of(name)
    found = prompt.document(question, "the the", image=False).token_ids
    text = PUBLISHED[name].replace("What is it?", question)
    end = text.index("a cat") + len("a cat" + TEMPLATES[name].stop)
    text = text[:end].replace("a cat", "the the")
    whole = prompt.tokenizer.encode(text, add_special_tokens=False)
    assert found.tolist() == whole.ids


def test_without_a_system_text_there_is_no_turn_for_it():
    found = prompt_of("chatml", system=None).question("What?", image=False).token_ids
    text = "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n"
    assert written(prompt_of("chatml"), found) == text
    found = prompt_of("llama2", system=None).question("What?", image=False).token_ids
    assert written(prompt_of("llama2"), found) == "<s> [INST] What? [/INST]"


def test_it_is_smollm2_s_unless_told_otherwise():
    prompt = ChatPrompt(byte_pairs(CHATML.tokens), 2)
    assert (prompt.template, prompt.system) == (CHATML, SYSTEM)
    assert SYSTEM == (
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    )
    assert prompt.vocabulary_size == prompt.tokenizer.get_vocab_size()


# === What is refused ===
@pytest.mark.parametrize("name", PUBLISHED)
def test_marks_in_a_text_are_refused(name):
    prompt, template = prompt_of(name), TEMPLATES[name]
    for mark in (*template.tokens, *template.words):
        for ask in (
            lambda text: prompt.question(text),
            lambda text: prompt.next_question(text),
            lambda text: prompt.answer(text),
            lambda text: prompt_of(name, system=text),
        ):
            with pytest.raises(ValueError, match="mark of the model's template"):
                ask(f"so {mark} it is")


def test_other_special_tokens_in_a_text_are_refused():
    words = byte_pairs([*CHATML.tokens, "<|endoftext|>"])
    prompt = ChatPrompt(words, 1)
    with pytest.raises(ValueError, match=r"<\|endoftext\|> in it"):
        prompt.question("so<|endoftext|>")


def test_a_vocabulary_of_another_model_is_refused():
    with pytest.raises(ValueError, match=r"no <end_of_turn>: .* template gemma"):
        ChatPrompt(byte_pairs(GEMMA.tokens[:2]), 1, template=GEMMA)
    words = byte_pairs(CHATML.tokens)
    size = words.get_vocab_size()
    with pytest.raises(ValueError, match=f"has {size} ids, and the decoder {size - 1}"):
        ChatPrompt(words, 1, vocabulary_size=size - 1)
    assert ChatPrompt(words, 1, vocabulary_size=999).vocabulary_size == 999
    with pytest.raises(TypeError, match="A dict is no tokenizer"):
        chat_tokenizer({})


def test_ids_that_are_no_token_s_are_no_text():
    prompt = prompt_of("chatml", vocabulary_size=999)
    ids = prompt.answer("the cat")
    found = prompt.text([998, *ids[:-1], 999, ids[-1], ids[0]])
    assert found == "the cat"


def test_it_goes_to_other_processes():
    for name in PUBLISHED:
        prompt = prompt_of(name)
        again = pickle.loads(pickle.dumps(prompt))
        one, other = (x.conversation(TURNS).token_ids for x in (prompt, again))
        np.testing.assert_array_equal(one, other)


def test_a_template_is_data():
    for name, template in TEMPLATES.items():
        assert template.name == name
        assert template.stop in template.tokens
        assert dataclasses.replace(template) == template


# === SentencePiece ===
@pytest.mark.parametrize(
    ("name", "control", "user"),
    [
        ("llama2", LLAMA2.tokens, ()),
        ("mistral", ("<s>", "</s>", "[INST]", "[/INST]"), ()),
        ("mistral-v1", ("<s>", "</s>"), ()),
        ("phi3", ("<s>",), TEMPLATES["phi3"].tokens[1:]),
        ("gemma", ("<bos>",), GEMMA.tokens[1:]),
    ],
)
def test_sentence_pieces_read_as_published(name, control, user):
    pytest.importorskip("sentencepiece")
    content = sentence_pieces(control, user, prefix=name != "gemma")
    template = TEMPLATES[name]
    words = SentencePieces(content)
    prompt = ChatPrompt(words, 3, "Be brief.", template, words.size + 5)
    found = prompt.conversation(TURNS, image=False)
    assert written(prompt, found.token_ids) == PUBLISHED[name]
    assert prompt.text(found.token_ids[found.answer]) == "a cat"
    assert prompt.text(np.array([words.size + 4, prompt.stop_id])) == ""
    again = pickle.loads(pickle.dumps(prompt))
    np.testing.assert_array_equal(
        again.conversation(TURNS).token_ids, prompt.conversation(TURNS).token_ids
    )
    for mark in (*template.tokens, *template.words):
        with pytest.raises(ValueError, match="mark of the model's template"):
            prompt.question(f"so {mark} it is")


def test_texts_are_neither_cut_off_nor_filled_up():
    asked = ("What colour is the very long sleeve?", "a deep and lasting red")
    plain = ChatPrompt(byte_pairs(CHATML.tokens), 2).document(*asked)
    given = byte_pairs(CHATML.tokens)
    given.enable_truncation(12)
    given.enable_padding(length=40, pad_id=0, pad_token="!")
    prompt = ChatPrompt(given, 2)
    found = prompt.document(*asked)
    np.testing.assert_array_equal(found.token_ids, plain.token_ids)
    np.testing.assert_array_equal(found.answer, plain.answer)
    # The one that was given is used elsewhere as it is, and neither follows the other.
    assert len(given.encode("a very long sleeve").ids) == 40
    assert given.truncation["max_length"] == 12
    again = type(prompt.words).from_content(given.to_str().encode())
    assert again.encode(asked[1]) == prompt.words.encode(asked[1])
    given.add_special_tokens(["<new>"])
    assert prompt.words.id_of("<new>") is None
