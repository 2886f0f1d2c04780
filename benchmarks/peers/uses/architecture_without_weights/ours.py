from keras_pe import PEVisionEncoder as Encoder

model = Encoder.from_preset("PE-Core-T16-384", load_weights=False, image_size=224)
print(model.count_params())
