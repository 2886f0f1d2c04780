from pathlib import Path

from PIL import Image
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression

paths = sorted(Path("shapes").glob("*/*.png"))
vectors = SentenceTransformer("sentence-clip").encode([Image.open(p) for p in paths])
head = LogisticRegression().fit(vectors, [path.parent.name for path in paths])
print(head.score(vectors, [path.parent.name for path in paths]))
