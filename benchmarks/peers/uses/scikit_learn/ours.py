from pathlib import Path

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from keras_pe.sklearn import PETransformer

paths = sorted(Path("shapes").glob("*/*.png"))
labels = [path.parent.name for path in paths]
head = make_pipeline(PETransformer("pe_core_emoji_patch8_64"), LogisticRegression())
print(head.fit(paths, labels).score(paths, labels))
