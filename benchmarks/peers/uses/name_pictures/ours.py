import keras_pe

names = ["an owl", "a guitar"]
classify = keras_pe.ZeroShotClassifier.from_preset("pe_core_emoji_patch8_64", names)
print(classify.predict("pictures/owl.png"))
