import keras
import keras_hub

pictures = keras.utils.image_dataset_from_directory(
    "shapes", image_size=(64, 64), batch_size=8
)
classifier = keras_hub.models.ImageClassifier.from_preset("vit", num_classes=2)
classifier.fit(pictures)
print(classifier.predict(pictures).shape)
classifier.save_to_preset("shapes-vit")
