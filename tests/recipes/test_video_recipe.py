"""Fine-tuning on clips: a run, its scores, its plan, what is refused."""

import csv
import dataclasses
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("grain", reason="part of keras-pe[train]")

from keras_pe import PECore
from keras_pe.evaluation.frame_orders import BLIND
from keras_pe.evaluation.retrieval import retrieval_recall
from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.config import build_model, build_tokenizer, check_config
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.retrieval_scores import RetrievalScores
from keras_pe.training.run.shard_data import ShardData
from keras_pe.training.run.train import RunOptions, pretrain
from recipes.video.__main__ import main
from recipes.video.configs import CONFIGS

TOWER = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "intermediate_dim": 32}
CONFIG = dataclasses.replace(
    CONFIGS["smoke"],
    vision={"image_size": 16, "patch_size": 8, "output_dim": 16, **TOWER},
    text={"vocabulary_size": 600, "context_length": 24, "output_dim": 16, **TOWER},
    stages=(ResolutionStage(16, 12),),
    batch_size=6,
    num_frames=2,
    warmup_steps=1,
)
NAMES = ("red", "green", "blue", "white", "black", "grey", "teal", "brown", "pink")


@pytest.fixture
def clips(tmp_path):
    """A shard of clips that fade from a colour to black, each with its name."""
    path = tmp_path / "clips.tar"
    with tarfile.open(path, "w") as archive:
        for number, name in enumerate(NAMES):
            full = np.array(Image.new("RGB", (20, 16), name))
            frames = [
                Image.fromarray((full * part).astype("uint8")) for part in (1, 0.6)
            ]
            file = io.BytesIO()
            frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
            for ending, content in (("gif", file.getvalue()), ("txt", name.encode())):
                member = tarfile.TarInfo(f"{number:04d}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return str(path)


def test_a_run_leaves_scores_of_all_and_of_first_frames(tmp_path, clips, capsys):
    options = RunOptions(tmp_path / "run", evaluate_every=1, progress=False)
    pretrain(CONFIG, ShardData(clips, clips), options)
    PECore.from_preset(tmp_path / "run" / "preset")
    with open(tmp_path / "run" / "scores.csv") as file:
        row = list(csv.DictReader(file))[-1]
    both = [name for name in row if "recall_at_1" in name]
    assert {name.startswith("first_frame_") for name in both} == {True, False}
    said = capsys.readouterr().out
    title, *lines = said[said.index("retrieval ") :].splitlines()
    assert title.split() == [
        "retrieval",
        "first",
        "frame",
        "2",
        "frames",
        "shuffled",
        "reversed",
    ]
    assert lines[-1] == BLIND
    printed = {name: list(map(float, v)) for name, *v in map(str.split, lines[:-1])}
    assert len(printed) == 6
    for name, (first, mean, shuffled, backwards) in printed.items():
        assert (
            mean == shuffled == backwards == pytest.approx(float(row[name]), abs=1e-4)
        )
        assert first == pytest.approx(float(row[f"first_frame_{name}"]), abs=1e-4)


def test_scores_are_those_of_encode_video(clips):
    model, tokenizer = build_model(CONFIG), build_tokenizer(CONFIG)
    scores = RetrievalScores(clips, model, tokenizer, batch_size=4, num_frames=2)
    found = scores.embeddings()
    batches = [scores.dataset[n]["images"] for n in range(3)]
    clip = np.concatenate(batches)[: len(NAMES)]
    wanted = np.asarray(model.encode_video(clip))
    np.testing.assert_allclose(found.images, wanted, atol=1e-6)
    assert scores.table() == ""
    scores()
    firsts = np.asarray(model.encode_image(clip[:, 0]))
    first = retrieval_recall(firsts, found.texts, found.captions)
    mean = retrieval_recall(wanted, found.texts, found.captions)
    assert scores.by_frames["first frame"] == pytest.approx(first)
    for name in ("all frames", "shuffled", "reversed"):
        assert scores.by_frames[name] == pytest.approx(mean)


@pytest.mark.once
def test_the_papers_plan(monkeypatch, capsys):
    command = "video --config paper-b16 --plan --devices 64"
    monkeypatch.setattr("sys.argv", command.split())
    main()
    said = capsys.readouterr().out
    assert "22.1 M samples in 5,400 steps of 4,096" in said
    assert "clips of 8 frames" in said


@pytest.mark.once
@pytest.mark.parametrize(
    "wrong", [{"num_frames": 0}, {"mask_weight": 1.0}, {"keep_patches": 0.5}]
)
def test_settings_that_clips_can_not_have(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        check_config(dataclasses.replace(CONFIG, **wrong))
