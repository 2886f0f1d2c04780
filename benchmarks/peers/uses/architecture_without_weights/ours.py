import keras_pe

model = keras_pe.PEVisionEncoder.from_preset(
    "PE-Core-T16-384", load_weights=False, image_size=224
)
print(model.count_params())
