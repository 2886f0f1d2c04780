"""A tower as SavedModel or LiteRT; runs on the TensorFlow backend."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe.export.layer_values import outputs_with_layers
from keras_pe.models.tower import Tower

OUTPUT = "layer_{:03}"  # 000 is the tower's own output


def write_savedmodel(
    tower: Tower, path: Path, example: np.ndarray, layers: tuple[str, ...] = ()
) -> None:
    """Writes a SavedModel that takes any batch.

    Args:
        tower: the encoder.
        path: of the folder.
        example: inputs, of which shape and dtype count.
        layers: whose outputs it returns after the tower's.
    """
    import tensorflow as tf

    spec = tf.TensorSpec([None, *example.shape[1:]], example.dtype, name="inputs")

    @tf.function(input_signature=[spec])
    def serve(inputs: Any) -> dict[str, Any]:
        outputs = outputs_with_layers(tower, inputs, layers)
        return {OUTPUT.format(n): output for n, output in enumerate(outputs)}

    module = tf.Module()
    module.kept = [variable.value for variable in tower.variables]
    module.serve = serve
    tf.saved_model.save(module, str(path), signatures={"serving_default": serve})


def write_litert(
    tower: Tower,
    path: Path,
    example: np.ndarray,
    layers: tuple[str, ...] = (),
    quantize: str = "none",
) -> None:
    """Writes a `.tflite` file that takes any batch, of builtin operations alone.

    Args:
        tower: the encoder.
        path: of the file.
        example: inputs, of which shape and dtype count.
        layers: whose outputs it returns after the tower's.
        quantize: "fp16" stores weights in float16; "int8" in int8, per channel, with
            activations rounded while it runs.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        write_savedmodel(tower, Path(folder), example, layers)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        path.write_bytes(converter.convert())
