import keras_hub
import numpy as np
import onnxruntime

backbone = keras_hub.models.Backbone.from_preset("vit")
backbone.export("vit.onnx", format="onnx")
session = onnxruntime.InferenceSession("vit.onnx")
pictures = np.random.default_rng(0).random((2, 64, 64, 3), "float32")
(found,) = session.run(None, {session.get_inputs()[0].name: pictures})
print(np.abs(found - np.asarray(backbone.predict(pictures))).max())
