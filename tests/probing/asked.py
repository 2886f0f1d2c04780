"""Questions about planted images, and a probe that is trained in a second."""

from keras_pe.language import QuestionPrompt
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.probing import LanguageProbe, QuestionSet
from tests.probing.planted import classified

NAMES = ("cat", "dog", "tree")
SMALL = {"hidden_dim": 32, "num_layers": 1, "num_heads": 2}


def prompt(image_tokens):
    """Returns how a question is asked, with few words."""
    return QuestionPrompt(PETokenizer(16, 2000), image_tokens)


def quick_probe(**options):
    """Returns a probe of four tokens an image, which learns names in 40 steps."""
    settings = {"steps": 40, "batch_size": 32, "learning_rates": (1e-2,)}
    settings |= {"pooling": 2, "max_tokens": 4, "decoder": SMALL, "prompt": prompt}
    return LanguageProbe(**{**settings, **options})


def questions(count=90, several=False):
    """Returns images that are asked for their class; every other one also twice."""
    images, labels = classified(count)
    rows = [(n, "What is it?", NAMES[label], "name") for n, label in enumerate(labels)]
    if several:
        rows += [
            (n, "Is it a cat?", "yes" if labels[n] == 0 else "no", "yes or no")
            for n in range(0, count, 2)
        ]
    return QuestionSet(images, rows)
