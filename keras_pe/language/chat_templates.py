"""How language models were taught to chat: the strings around what is said, as data."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    """What stands around system text, question and answer.

    A conversation is `start`, the system text in `system`, a question in `question`, an
    answer in `answer`, `stop`; each further one is `between`, `question`, and so on.

    Attributes:
        name: by which presets know it: what a template of this name says never changes.
        question: what stands before and after a question; up to where an answer begins.
        stop: the mark that ends an answer.
        tokens: the marks that have to be one token each in a vocabulary.
        start: before everything.
        system: before and after the system text.
        inside: whether the system text stands inside the first question, of models that
            have no turn for it.
        answer: before and after an answer, without `stop`.
        between: after `stop`, before the next question.
        words: other marks, which are spelled as words are, and which texts may not
            have either.
        told: the system text that its models expect; None for none.

    Example:
        >>> template = ChatTemplate("mine", ("<user>", "<model>"), "<end>",
        ...     ("<user>", "<model>", "<end>"))
        >>> before, after = template.question
        >>> before + "What is this?" + after
        '<user>What is this?<model>'
    """

    name: str
    question: tuple[str, str]
    stop: str
    tokens: tuple[str, ...]
    start: str = ""
    system: tuple[str, str] = ("", "")
    inside: bool = False
    answer: tuple[str, str] = ("", "")
    between: str = ""
    words: tuple[str, ...] = ()
    told: str | None = None


# SmolLM2 and others. Source: HuggingFaceTB/SmolLM2-135M-Instruct, tokenizer_config.json
CHATML = ChatTemplate(
    name="chatml",
    system=("<|im_start|>system\n", "<|im_end|>\n"),
    question=("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
    stop="<|im_end|>",
    between="\n",
    tokens=("<|im_start|>", "<|im_end|>"),
    told="You are a helpful AI assistant named SmolLM, trained by Hugging Face",
)
# Source: Qwen/Qwen2.5-0.5B-Instruct, tokenizer_config.json
QWEN = dataclasses.replace(
    CHATML,
    name="qwen2.5",
    told="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
)
# Models that may think first are asked not to: what they would think is closed, and
# empty. They leave that out of earlier answers; here each one is learned as it is asked
# for. Source: https://huggingface.co/blog/qwen-3-chat-template-deep-dive
QWEN3 = dataclasses.replace(
    CHATML,
    name="qwen3",
    question=(
        "<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
    tokens=("<|im_start|>", "<|im_end|>", "<think>", "</think>"),
    told=None,
)
# Its system text is what /system_override leaves: without the date of the day, which
# would be another model's every day. Source: HuggingFaceTB/SmolLM3-3B,
# chat_template.jinja, with /no_think
SMOLLM3 = dataclasses.replace(
    QWEN3,
    name="smollm3",
    question=(
        "<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n",
    ),
    told="You are a helpful AI assistant named SmolLM, trained by Hugging Face.",
)
# Without the dates that the templates of 3.1 and 3.2 put before a system text: they
# change, and the vocabulary does not tell which model it is. Source: meta-llama/llama3,
# llama/tokenizer.py, ChatFormat
LLAMA3 = ChatTemplate(
    name="llama3",
    start="<|begin_of_text|>",
    system=("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
    question=(
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    stop="<|eot_id|>",
    tokens=(
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ),
)
# All up to Gemma 3. Source: https://ai.google.dev/gemma/docs/formatting
GEMMA = ChatTemplate(
    name="gemma",
    start="<bos>",
    system=("", "\n\n"),
    inside=True,
    question=(
        "<start_of_turn>user\n",
        "<end_of_turn>\n<start_of_turn>model\n",
    ),
    stop="<end_of_turn>",
    between="\n",
    tokens=("<bos>", "<start_of_turn>", "<end_of_turn>"),
)
# SentencePiece puts a space before each text itself, behind a mark too, so that these
# have none where published ones do. Source: meta-llama/Llama-2-7b-chat-hf,
# tokenizer_config.json
LLAMA2 = ChatTemplate(
    name="llama2",
    start="<s>",
    system=("<<SYS>>\n", "\n<</SYS>>\n\n"),
    inside=True,
    question=("[INST] ", " [/INST]"),
    answer=("", " "),
    stop="</s>",
    between="<s>",
    tokens=("<s>", "</s>"),
    words=("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
)
# Tokenizers from V2 on, Tekken among them: the marks are tokens. Source: of both,
# https://docs.mistral.ai/cookbook/concept-deep-dive-tokenization-chat_templates
MISTRAL = ChatTemplate(
    name="mistral",
    start="<s>",
    system=("", "\n\n"),
    inside=True,
    question=("[INST]", "[/INST]"),
    stop="</s>",
    tokens=("<s>", "</s>", "[INST]", "[/INST]"),
)
MISTRAL_V1 = dataclasses.replace(
    MISTRAL,
    name="mistral-v1",
    question=("[INST] ", " [/INST]"),
    tokens=("<s>", "</s>"),
    words=("[INST]", "[/INST]"),
)
# The published text has a line break behind each mark, which its tokenizer swallows.
# Source: microsoft/Phi-3-mini-4k-instruct, README.md and tokenizer_config.json (rstrip)
PHI3 = ChatTemplate(
    name="phi3",
    start="<s>",
    system=("<|system|>", "<|end|>"),
    question=("<|user|>", "<|end|><|assistant|>"),
    stop="<|end|>",
    tokens=("<s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
)
TEMPLATES = {
    template.name: template
    for template in (
        CHATML,
        QWEN,
        QWEN3,
        SMOLLM3,
        LLAMA3,
        GEMMA,
        LLAMA2,
        MISTRAL,
        MISTRAL_V1,
        PHI3,
    )
}
