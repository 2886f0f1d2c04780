from keras_pe import ZeroShotClassifier

classify = ZeroShotClassifier.from_preset("pe_core_emoji_patch8_64", ["owl", "guitar"])
print(classify.predict("pictures/owl.png"))
