"""Damaged image indexes: refused by name, or the right answer."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.campaign import Campaign, refused, require
from tests.fuzz.mutations import byte_edits, edited, edited_json, json_edits


class Indexes(Campaign):
    """`ImageIndex.open` and `search` on spoiled files."""

    name = "indexes"
    short = 60
    cpu_seconds = 4.0

    def prepare(self, folder: Path) -> None:
        from keras_pe.search import ImageIndex
        from tests import small_models

        images = folder / "images"
        images.mkdir()
        rng = np.random.default_rng(0)
        for number in range(12):
            pixels = rng.integers(0, 255, (20, 20, 3), dtype="uint8")
            Image.fromarray(pixels).save(images / f"{number}.png")
        self.open = ImageIndex.open
        self.good, self.work = folder / "good", folder / "work"
        ImageIndex.build(small_models.perturb(small_models.core()), images, self.good)
        self.files = {
            str(path.relative_to(self.good)): path.read_bytes()
            for path in sorted(self.good.rglob("*"))
            if path.is_file()
        }
        self.queries = rng.standard_normal((3, 16)).astype("float32")
        self.queries /= np.linalg.norm(self.queries, axis=1, keepdims=True)
        self.right = self.answers(self.good)

    def answers(self, directory: Path) -> Any:
        index = self.open(directory)
        found = [index.search(query, 5) for query in self.queries]
        return len(index), [
            [(match.path.name, round(match.similarity, 5)) for match in matches]
            for matches in found
        ]

    def cases(self) -> st.SearchStrategy[Any]:
        def of_file(name: str) -> st.SearchStrategy[Any]:
            spoiled = st.tuples(
                st.just("edit"), st.just(name), byte_edits(len(self.files[name]))
            )
            if not name.endswith(".json"):
                return spoiled
            return spoiled | st.tuples(st.just("json"), st.just(name), json_edits())

        names = sorted(self.files)
        largest = max(names, key=lambda name: len(self.files[name]))
        gone = st.tuples(st.just("gone"), st.sampled_from(names))
        damaged = st.sampled_from(names).flatmap(of_file)
        return st.one_of(of_file(largest), of_file(largest), damaged, damaged, gone)

    def material(self, case: Any) -> bytes | None:
        kind, name, *more = case
        content = self.files[name]
        if kind == "edit":
            return edited(content, more[0])
        if kind == "json":
            spoiled = edited_json(json.loads(content), more[0])
            return json.dumps(spoiled).encode("utf-8", "surrogatepass")
        return None

    def run(self, case: Any) -> str:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.good, self.work)
        content, path = self.material(case), self.work / case[1]
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        try:
            found = self.answers(self.work)
        except ValueError as error:
            # NumPy's own and usearch's are of these classes too: ours says where.
            said = str(self.work) in str(error)
            require(said, f"an error that does not name the index: {error!r}")
            return refused(error)
        assert found == self.right, f"other results and no error: {found}"
        return "right"
