"""KerasHub's RetinaNet on Perception Encoder: wire it up, train a step, detect.

Run:      python -m recipes.detection.retinanet --steps 1
Needs:    pip install "keras-pe[kerashub]", and a backend.
Expect:   the size of every map, the loss of each step, and what is detected in one
          image. One step teaches nothing: this shows how the parts fit. With
          `--steps 100 --batch-size 8 --learning-rate 3e-4` the loss falls from 0.59 to
          0.14; the best three boxes lie on the three objects, one with the right name.

The encoder is the bundled preset (64 pixels in patches of 8), converted to read 128
pixels in windows of its own size, with two global blocks. Images and boxes are made
here. For a real detector take a published preset, `convert(patch_size=16, ...)` and
the settings in `docs/detection.md`.
"""

import argparse
import math
from typing import Any

# Before Keras: takes a backend that is installed.
from keras_pe import PEVisionEncoder

# isort: split
import keras
import keras_hub
import numpy as np

from keras_pe.kerashub import PEPyramidBackbone, PERetinaNetObjectDetector
from recipes.detection.scenes import class_names, scenes

PRIOR = 0.01  # share of anchors taken for an object at the start (RetinaNet, 4.1)


def build_detector(
    preset: str = "pe_core_emoji_patch8_64",
    side: int = 128,
    num_classes: int = 8,
    frozen: bool = False,
) -> Any:
    """Returns a RetinaNet whose backbone is a windowed Perception Encoder.

    Args:
        preset: a preset whose patch size is a power of two.
        side: height and width of the images, pixels.
        num_classes: kinds of objects.
        frozen: whether the encoder stays as it is.
    """
    encoder = PEVisionEncoder.from_preset(preset)
    window = encoder.image_size // encoder.patch_size
    encoder = encoder.convert(
        window_size=window,
        global_blocks=(encoder.num_layers // 2, encoder.num_layers),
        rope_reference_grid=window,  # as upstream's detectors; see docs/detection.md
    )
    encoder.trainable = not frozen
    backbone = PEPyramidBackbone.from_encoder(
        encoder, image_shape=(side, side, 3), scales=(1, 0.5), top_level=True
    )
    detector = PERetinaNetObjectDetector(
        backbone,
        num_classes=num_classes,
        bounding_box_format="xyxy",
        prediction_decoder=keras_hub.layers.NonMaxSuppression(
            "xyxy", from_logits=True, confidence_threshold=0.05, max_detections=10
        ),
    )
    start_heads(detector)
    return detector


def start_heads(detector: Any) -> None:
    """Starts the heads as RetinaNet's section 4.1 does: small, and doubtful.

    keras-hub 0.32 gives the prior to the boxes' bias instead of the classes', and all
    layers a standard deviation of 0.05.
    """
    rng = np.random.default_rng(0)
    for head, bias in (
        (detector.classification_head, -math.log((1 - PRIOR) / PRIOR)),
        (detector.box_head, 0.0),
    ):
        for layer in (*head.conv_layers, head.prediction_layer):
            layer.kernel.assign(rng.normal(0, 0.01, tuple(layer.kernel.shape)))
        last = head.prediction_layer.bias
        last.assign(np.full(tuple(last.shape), bias))


def main(arguments: list[str] | None = None) -> None:
    """Trains some steps on made-up images, then detects in one more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--frozen", action="store_true", help="train no encoder")
    options = parser.parse_args(arguments)

    keras.utils.set_random_seed(0)
    names = class_names()
    detector = build_detector(num_classes=len(names), frozen=options.frozen)
    for name, stride in detector.backbone.pyramid.strides.items():
        shape = tuple(detector.backbone.pyramid_outputs[name].shape)[1:]
        print(f"{name}: stride {stride}, {shape[0]}x{shape[1]}, {shape[2]} channels")

    detector.compile(
        keras.optimizers.AdamW(options.learning_rate, weight_decay=0.1, clipnorm=1.0)
    )
    for step in range(options.steps):
        images, objects = scenes(options.batch_size, seed=step)
        history = detector.fit(
            images, objects, batch_size=options.batch_size, verbose=0
        )
        print(f"step {step + 1}: loss {history.history['loss'][0]:.3f}")

    images, objects = scenes(1, seed=-1 % 2**31)
    found = detector.predict(images, verbose=0)
    print("there is:")
    for box, label in zip(objects["boxes"][0], objects["labels"][0], strict=True):
        if label >= 0:
            print(f"  {names[label]:9s}      at {corners(box)}")
    number = int(found["num_detections"][0])
    print(f"detected: {number}")
    for place in range(number):
        name = names[int(found["labels"][0][place])]
        confidence = float(found["confidence"][0][place])
        print(f"  {name:9s} {confidence:.2f} at {corners(found['boxes'][0][place])}")


def corners(box: Any) -> str:
    """Returns left, top, right and bottom in whole pixels."""
    return ", ".join(f"{float(value):.0f}" for value in box)


if __name__ == "__main__":
    main()
