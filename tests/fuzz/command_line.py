"""Odd arguments, file names and outputs of `keras-pe`: an exit code and a line."""

import contextlib
import io
import itertools
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.campaign import Campaign

NAMES = (
    "plain.png",
    "new\nline.png",
    "bell\a\x1b[31m.png",
    "tab\t.png",
    "caf\udce9.png",
    "katze-猫-🐈.png",
    "rtl-\u202egnp.png",
    "-dash.png",
    "space name.png",
    "quo'te\".png",
    "back\\slash.png",
    "a" * 200 + ".png",
)
TEXTS = (
    "a cat",
    "",
    " ",
    "\n",
    "caf\udce9",
    "猫",
    "a" * 3000,
    "\0",
    "\x1b[2J",
    "{}",
    "%s",
    "-x",
)
NUMBERS = ("1", "2", "0", "-1", "1e9", "99999999", "x", "", "1.5", "nan")
OUTPUTS = ("plain", "ascii", "latin-1", "full", "closed")
OUT_FILES = (
    "out.npz",
    "out.npy",
    "out.csv",
    "out.json",
    "nowhere/deep/out.npz",
    "plain.png/x",
    ".",
    "",
    "/proc/x.npz",
    "new\nline.npz",
    "caf\udce9.npz",
)


class CommandLine(Campaign):
    """`keras_pe.cli.main` in a folder of images with odd names."""

    name = "cli"
    short = 25
    memory_mb = 600
    cpu_seconds = 15.0

    def prepare(self, folder: Path) -> None:
        import keras_pe
        from keras_pe.presets.save import save_preset
        from keras_pe.search import ImageIndex
        from tests.presets import tiny

        self.good, self.work = folder / "good", folder / "work"
        self.good.mkdir()
        rng = np.random.default_rng(0)
        for name in NAMES:
            pixels = rng.integers(0, 255, (20, 20, 3), dtype="uint8")
            path = os.fsencode(str(self.good)) + b"/" + os.fsencode(name)
            with open(path, "wb") as file:
                Image.fromarray(pixels).save(file, "PNG")
        (self.good / "bad.png").write_bytes(b"no image")
        (self.good / "classes.txt").write_text("a cat\na dog\n")
        for name in ("empty", "only_bad"):
            (self.good / name).mkdir()
        (self.good / "only_bad" / "bad.png").write_bytes(b"no image")
        model = tiny.core()
        save_preset(
            model,
            self.good / "tiny",
            tokenizer=tiny.tokenizer(),
            image_converter=keras_pe.PEImageConverter(32),
        )
        plain = self.good / "plain.png"
        ImageIndex.build(model, [plain], self.good / "images.index")

    def cases(self) -> st.SearchStrategy[Any]:
        path = st.sampled_from(
            (*NAMES, ".", "", "bad.png", "empty", "only_bad", "none", "tiny", "\0", "*")
        )
        image = st.sampled_from((*NAMES, *NAMES, ".", "", "bad.png", "only_bad"))
        text = st.sampled_from(TEXTS)
        out = st.sampled_from(OUT_FILES)
        preset = st.sampled_from(
            (*["tiny"] * 12, "", "none", "empty", "hf://x", "a\nb")
        )
        number = st.sampled_from(("1", "2", *NUMBERS))
        use = preset.map(lambda name: ["--preset", name])
        json_flag = st.sampled_from(([], ["--json"]))
        top = st.one_of(st.just([]), number.map(lambda n: ["--top-k", n]))
        images = st.lists(image, min_size=1, max_size=3)
        classes = st.one_of(
            st.lists(text, min_size=1, max_size=3).map(lambda t: ["--classes", *t]),
            path.map(lambda name: ["--classes-file", name]),
        )

        def line(*parts: Any) -> st.SearchStrategy[list[str]]:
            return st.tuples(*parts).map(
                lambda found: [*itertools.chain.from_iterable(found)]
            )

        def word(name: str) -> st.SearchStrategy[list[str]]:
            return st.just([name])

        one = path.map(lambda name: [name])
        index = st.sampled_from((["images.index"], ["images.index"], ["none"], [""]))
        query = st.one_of(
            text.map(lambda t: ["--text", t]), path.map(lambda p: ["--image", p])
        )
        saved = out.map(lambda name: ["--output", name])
        texts = st.lists(text, min_size=1, max_size=2).map(lambda t: ["--texts", *t])
        commands = st.one_of(
            line(word("classify"), images, classes, use, json_flag, top),
            line(word("classify"), images, classes, use, json_flag, top),
            line(word("embed"), images, saved, use),
            line(word("embed"), texts, saved, use),
            line(word("index"), one, saved, use),
            line(word("search"), index, query, use, json_flag, top),
            line(word("inspect"), one),
            line(word("presets"), json_flag),
            st.lists(st.one_of(text, path, number), max_size=4),
        )
        return st.tuples(commands, st.sampled_from(OUTPUTS))

    def run(self, case: Any) -> str:
        import warnings

        from keras_pe.cli.main import main

        arguments, kind = case
        os.environ["HF_HUB_OFFLINE"] = "1"
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.good, self.work)
        os.chdir(self.work)
        errors, output = io.StringIO(), output_of(kind)
        kept = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = output, errors
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code: Any = main(arguments)
        except SystemExit as error:
            code = error.code
        finally:
            sys.stdout, sys.stderr = kept
        said = errors.getvalue()
        assert code in (0, 1, 2, 3, 130), f"exit code {code!r}"
        assert "Traceback" not in said, f"a traceback: {said[-300:]}"
        if code in (1, 2):
            assert said.strip(), "an error without a word"
        if code == 1:
            lines = [x for x in said.splitlines() if not x.startswith("skipped ")]
            assert len(lines) <= 2, f"more than a line: {said[:300]}"
            controls = [c for c in said if ord(c) < 32 and c not in "\n\r\t"]
            assert not controls, f"control characters on the terminal: {said[:200]!r}"
        if code == 0 and kind == "full":
            try:
                output.flush()
            except OSError:
                raise AssertionError("exit code 0, and the output is lost") from None
        with contextlib.suppress(OSError):
            if output is not None:
                output.close()
        return f"exit code {code}"


def output_of(kind: str) -> Any:
    """Returns a standard output of some kind."""
    if kind == "closed":
        return None  # what Python makes of `>&-`
    if kind == "full":
        return io.TextIOWrapper(open("/dev/full", "wb"), encoding="utf-8")
    encoding = kind if kind in ("ascii", "latin-1") else "utf-8"
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)
