from pathlib import Path

from PIL import Image
from sentence_transformers import SentenceTransformer, util

paths = sorted(Path("pictures").glob("*.png"))
model = SentenceTransformer("sentence-clip")
vectors = model.encode([Image.open(path) for path in paths])
found = util.semantic_search(model.encode("an owl"), vectors, top_k=3)
print([(paths[one["corpus_id"]], one["score"]) for one in found[0]])
