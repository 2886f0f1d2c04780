"""The detection recipe: its images, and its detector where KerasHub is installed."""

import numpy as np
import pytest

from recipes.detection.scenes import NO_OBJECT, class_names, scenes


@pytest.mark.quick
def test_scenes_hold_what_their_boxes_say():
    images, objects = scenes(6, side=64, seed=1)
    boxes, labels = objects["boxes"], objects["labels"]
    assert images.shape == (6, 64, 64, 3)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1.0
    present = labels != NO_OBJECT
    assert present[:, 0].all()
    assert not present.all()
    assert (boxes[~present] == NO_OBJECT).all()
    assert set(labels[present]) <= set(range(len(class_names())))
    left, top, right, bottom = boxes[present].T
    assert (left >= 0).all()
    assert (right <= 64).all()
    np.testing.assert_array_equal(right - left, bottom - top)
    for image, row, seen in zip(images, boxes, present, strict=True):
        drawn = np.abs(image - image[0, 0]).max(axis=-1) > 0.02
        inside = np.zeros((64, 64), bool)
        for x0, y0, x1, y1 in row[seen].astype(int):
            assert drawn[y0:y1, x0:x1].mean() > 0.2
            inside[y0:y1, x0:x1] = True
        if not inside[0, 0]:  # that corner shows the canvas
            assert not drawn[~inside].any()
    again, _ = scenes(6, side=64, seed=1)
    np.testing.assert_array_equal(again, images)
    assert not np.array_equal(scenes(6, side=64, seed=2)[0], images)


@pytest.mark.slow
def test_a_step_and_a_detection(capsys):
    pytest.importorskip("keras_hub")
    from recipes.detection import retinanet

    retinanet.main(["--steps", "1", "--batch-size", "1"])
    printed = capsys.readouterr().out
    assert "P3: stride 8, 16x16, 256 channels" in printed
    assert "step 1: loss 0." in printed
    assert "detected: " in printed
