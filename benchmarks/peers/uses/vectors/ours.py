import keras_pe

embedder = keras_pe.Embedder.from_preset("pe_core_emoji_patch8_64")
vectors = embedder.encode(["pictures/owl.png"])
print(embedder.similarity(vectors, ["an owl", "a guitar"]))
