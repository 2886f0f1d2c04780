from PIL import Image
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("sentence-clip")
vectors = model.encode([Image.open("pictures/owl.png")])
print(model.similarity(vectors, model.encode(["an owl", "a guitar"])))
