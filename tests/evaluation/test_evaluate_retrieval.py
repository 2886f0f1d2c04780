"""Retrieval of a data set, from images and texts to a result."""

import keras
import numpy as np
import pytest

from keras_pe import PEImageConverter
from keras_pe.evaluation import VideoProtocol, evaluate_retrieval
from keras_pe.evaluation.ranks import Matches
from keras_pe.evaluation.retrieval import both_ranks

pytestmark = pytest.mark.slow
TEXTS = [["a cat", "a pet"], ["a dog", "a pet"], ["a red car"], ["a tree", "green"]]


def images(count=4):
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 255, (count, 40, 60, 3)).astype("uint8"))


def expected(model, tokenizer, images, texts, places, k, dsl_scale=None):
    flat = keras.ops.convert_to_numpy(model.encode_text(tokenizer(texts)))
    ranks = both_ranks(images, flat, Matches(4, places, texts), 100, dsl_scale)
    return {name: (found < k).mean() for name, found in ranks.items()}


@pytest.mark.parametrize("dsl_scale", [None, 10.0])
def test_captions_of_each_image(model, tokenizer, dsl_scale):
    result = evaluate_retrieval(
        model, tokenizer, images(), TEXTS, dsl_scale=dsl_scale, ks=(1, 2)
    )
    texts = [text for several in TEXTS for text in several]
    places = [0, 0, 1, 1, 2, 3, 3]
    for mode, found in result.scores.items():
        vectors = model.encode_image(PEImageConverter(32, mode)(images()))
        vectors = keras.ops.convert_to_numpy(vectors)
        for k in (1, 2):
            recalls = expected(model, tokenizer, vectors, texts, places, k, dsl_scale)
            for direction, value in recalls.items():
                score = found[f"{direction}_recall_at_{k}"]
                assert score.value == pytest.approx(value)
    assert result.best["text_to_image_recall_at_1"].count == 7
    assert result.best["image_to_text_recall_at_1"].count == 4
    assert result.protocol["dsl_scale"] == dsl_scale
    assert ("(DSL, scale 10)" in str(result)) == (dsl_scale is not None)
    # The flat form, and a text that several images share, say the same.
    flat = evaluate_retrieval(
        *(model, tokenizer, images(), texts, [0, [0, 1], 1, [1, 0], 2, 3, [3]]),
        dsl_scale=dsl_scale,
        ks=(1, 2),
    )
    assert flat.scores == result.scores
    assert flat.data_hash != result.data_hash


def test_texts_leave_with_their_image(model, tokenizer, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    given = images()
    given[0] = bad
    result = evaluate_retrieval(
        model, tokenizer, given, TEXTS, ks=(1,), max_skipped_share=0.5
    )
    rest = evaluate_retrieval(model, tokenizer, given[1:], TEXTS[1:], ks=(1,))
    assert result.scores == rest.scores
    assert result.protocol["scored_texts"] == 5
    assert result.num_samples == 3


def test_videos_as_upstream_averages_them(model, tokenizer):
    rng = np.random.default_rng(0)
    videos = list(rng.integers(0, 255, (4, 3, 32, 32, 3)).astype("uint8"))
    result = evaluate_retrieval(
        *(model, tokenizer, videos, TEXTS),
        ks=(1,),
        resize_modes="squash",
        video=VideoProtocol(num_frames=3),
    )
    frames = PEImageConverter(32)(np.concatenate(videos))
    each = keras.ops.convert_to_numpy(model.encode_image(frames)).reshape(4, 3, -1)
    texts = [text for several in TEXTS for text in several]
    average = each.mean(axis=1)  # of unit vectors, not of unit length itself
    for direction, value in expected(
        model, tokenizer, average, texts, [0, 0, 1, 1, 2, 3, 3], 1
    ).items():
        assert result.best[f"{direction}_recall_at_1"].value == pytest.approx(value)
    assert result.protocol["video"]["unit_length"] is False
    assert result.task == "video-text retrieval"
    assert 'rule "benchmark", their normalized average, as it is' in str(result)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": TEXTS[:3]}, "each of 4 images"),
        ({"texts": [*TEXTS[:3], []]}, "Image 3 has no match"),
        ({"texts": [*TEXTS[:3], [7]]}, "texts only"),
        ({"texts": [*TEXTS[:3], None]}, r"texts only, got \[None\]"),
        ({"texts": "owls"}, "texts='owls': expected a list of texts"),
        ({"video": 8}, "video=8: expected a VideoProtocol"),
        ({"video": True}, "video=True: expected a VideoProtocol"),
        ({"texts": ["a"], "images_of_text": [9]}, "expected 0 to 3"),
        ({"ks": ()}, "ks"),
        ({"ks": (0,)}, "ks"),
        ({"dsl_scale": -1.0}, "dsl_scale"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"resize_modes": "pad"}, "resize_modes"),
    ],
)
def test_bad_arguments_are_explained(model, tokenizer, changes, message):
    arguments = {"images": images(), "texts": TEXTS}
    with pytest.raises(ValueError, match=message):
        evaluate_retrieval(model, tokenizer, **{**arguments, **changes})
