"""Language models that read an encoder's tokens: what aligns it to language."""

from keras_pe.language.answers import AnswerCost, answer_cost
from keras_pe.language.decoder import Decoder
from keras_pe.language.generation import generate
from keras_pe.language.kerashub import KerasHubDecoder
from keras_pe.language.prompts import QuestionPrompt
from keras_pe.language.small_decoder import SmallDecoder
from keras_pe.language.vision_language_model import VisionLanguageModel

__all__ = [
    "AnswerCost",
    "Decoder",
    "KerasHubDecoder",
    "QuestionPrompt",
    "SmallDecoder",
    "VisionLanguageModel",
    "answer_cost",
    "generate",
]
