"""Scores of written answers: exact match, VQA, reading, numbers, boxes, captions."""

from keras_pe.evaluation.language.answer_scores import AnswerScores
from keras_pe.evaluation.language.answers import anls, exact_match, vqa_accuracy
from keras_pe.evaluation.language.boxes import box_accuracy, box_text, parse_box
from keras_pe.evaluation.language.captions import cider
from keras_pe.evaluation.language.numbers import number_accuracy, parse_number

__all__ = [
    "AnswerScores",
    "anls",
    "box_accuracy",
    "box_text",
    "cider",
    "exact_match",
    "number_accuracy",
    "parse_box",
    "parse_number",
    "vqa_accuracy",
]
