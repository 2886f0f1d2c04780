import keras_pe

classifier = keras_pe.ImageClassifier.from_preset(
    "pe_core_emoji_patch8_64", ["circle", "square"]
)
print(classifier.fit("shapes").validation)
print(classifier.predict("shapes/circle/0.png"))
classifier.save_to_preset("shapes-pe")
