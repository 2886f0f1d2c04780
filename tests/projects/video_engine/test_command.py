"""The command line: what it builds, what it refuses, and Beam where it is installed."""

import argparse
import json

import pytest

from keras_pe.data_engine import (
    EndpointCaptioner,
    InProcesses,
    Limits,
    clips_of_folder,
    in_this_process,
    run_engine,
)
from projects.video_engine.__main__ import main, mapper_of, parse
from projects.video_engine.build import check_metadata, engine_of, limits_of
from projects.video_engine.progress import Reporting
from tests.data_engine.chat_server import chat_server, completion, send
from tests.data_engine.parts import Letters, engine, files_of, folder_of, lines

pytestmark = [pytest.mark.quick, pytest.mark.once]
NEEDED = ["--clips", "clips", "--output", "output"]
ENDPOINT = ["--endpoint", "http://127.0.0.1:1/v1", "--endpoint-model", "llama"]


def names(arguments):
    found = engine_of(parse([*NEEDED, "--embed", "", *arguments]))
    return [stage.name for stage in (*found.stages, *found.then)]


# === What it builds ===
def test_options_say_which_stages_there_are():
    captions = ["probe", "video_caption", "refined_caption", "frame_captions"]
    assert names(ENDPOINT) == [*captions, "summary"]
    assert names([*ENDPOINT, "--parts", "metadata", "video"]) == [
        *captions[:3],
        "summary",
    ]
    found = engine_of(parse([*NEEDED, "--embed", "", *ENDPOINT, "--num-frames", "3"]))
    captioner = found.then[0].captioner
    assert isinstance(captioner, EndpointCaptioner)
    assert captioner.converter.num_frames == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Who describes the clips"),
        (["--endpoint", "http://a/v1"], "needs --endpoint-model"),
        ([*ENDPOINT, "--decoder", "gguf:x"], "one of them summarises"),
        ([*ENDPOINT, "--choose", "3"], "--best N go together"),
        ([*ENDPOINT, "--choose", "3", "--best", "1"], "--choose needs --embed"),
        (["--endpoint", "a", "--endpoint-model", "b"], "expected http"),
        ([*ENDPOINT, "--question", "What?"], "--question goes with --captioner"),
        ([*ENDPOINT, "--max-tokens", "9"], "--max-tokens goes with --captioner"),
        ([*ENDPOINT, "--words", "0"], "words must be"),
        ([*ENDPOINT, "--edits", "none.jsonl"], "--edits none.jsonl: no such file"),
        ([*ENDPOINT, "--metadata", ""], "expected a list of names"),
        ([*ENDPOINT, "--metadata", "a", "--parts", "video"], 'add "metadata"'),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        names(arguments)


def test_metadata_that_no_clip_has_are_refused():
    rows = [{"metadata": {"title": "owl", "id": 3}}, {"metadata": {"title": "cat"}}]
    check_metadata(None, rows)
    check_metadata(["id", "title"], rows)
    with pytest.raises(ValueError, match=r"'titel': .*expected some of title, id\."):
        check_metadata(["title", "titel"], rows)
    with pytest.raises(ValueError, match=r"expected owl.json beside owl.mp4"):
        check_metadata(["title"], [{"metadata": {}}])


def test_limits_are_read_by_name():
    given = [*NEEDED, "--limit", "failed=0.5", "--limit", "matched=none"]
    assert limits_of(parse(given)) == Limits(failed=0.5, matched=None)
    for limit in ("failed", "failed=x", "other=0.5", "failed=2"):
        with pytest.raises(ValueError, match="failed"):
            limits_of(parse([*NEEDED, "--limit", limit]))


def test_workers_say_which_mapper():
    assert mapper_of(parse(NEEDED)) is in_this_process
    found = mapper_of(parse([*NEEDED, "--workers", "3"]))
    assert isinstance(found, InProcesses)
    assert found.workers == 3
    for wrong in (["--workers", "0"], ["--", "--temp_location=x"], ["--runner", "x"]):
        with pytest.raises(SystemExit):
            parse([*NEEDED, *wrong])


def test_a_runner_without_beam_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "projects.video_engine.beam_mapper", raising=False)
    with pytest.raises(SystemExit, match=r"pip install -r .*requirements.txt"):
        mapper_of(parse([*NEEDED, "--runner", "DirectRunner"]))


# === A run ===
def test_a_run_with_an_endpoint_prints_its_receipt(tmp_path, capsys):
    folder_of(tmp_path / "clips", 3)

    def respond(handler, number, asked):
        send(handler, 200, completion(f"clip number {number}"))

    def run(asked, *more):
        where = ["--clips", str(tmp_path / "clips"), "--output", str(tmp_path / "out")]
        address = ["--endpoint", asked.url, "--endpoint-model", "llama"]
        frames = ["--embed", "", "--num-frames", "2", *more]
        return main([*where, *address, *frames])

    with chat_server(respond) as asked:
        assert run(asked) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["captioned"] == 3
        assert "video_caption, refined_caption, frame_captions, summary" in said.err
        assert "3 of 3 clips in" in said.err
        assert len(asked.bodies) == 3 * (1 + 2 + 1)
        assert run(asked) == 0
        assert len(asked.bodies) == 12  # all was known
        capsys.readouterr()
        (tmp_path / "clips" / "03.gif").write_bytes(b"no picture")
        assert run(asked) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["failed_share"] == 0.25
    assert "Refused: 25.0% of the clips failed (probe: " in said.err


def test_what_can_not_begin_is_said_in_a_sentence(tmp_path):
    (tmp_path / "clips").mkdir()
    given = ["--clips", str(tmp_path / "clips"), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="holds no clips"):
        main([*given, "--embed", "", *ENDPOINT])
    (tmp_path / "out.txt").write_text("mine")
    with pytest.raises(SystemExit, match=r"out.txt is a file"):
        main([*given[:3], str(tmp_path / "out.txt"), *ENDPOINT])
    with pytest.raises(SystemExit, match="No such file"):
        main(["--clips", str(tmp_path / "none"), "--output", "x", *ENDPOINT])
    assert not (tmp_path / "out").exists()


def test_progress_says_how_far_it_is_and_what_failed():
    rows = [{"key": str(n)} for n in range(3)]
    rows[1]["failure"] = {"stage": "probe", "reason": "dam\x1baged"}
    said = []
    file = argparse.Namespace(write=said.append, flush=lambda: None)
    mapper = Reporting(lambda rows, stages, ledger: rows, every=0, file=file)
    assert list(mapper(rows, [Letters()], None)) == rows
    text = "".join(said).splitlines()
    assert text[0] == "letters: 3 clips"
    assert [line.split(" in ")[0] for line in text[1:]] == [
        *(f"{n} of 3 clips" for n in (1, 2, 3)),
        "3 of 3 clips",
    ]
    assert text[-1].endswith("; failed: probe: dam\\x1baged 1")


# === Beam ===
def test_beam_writes_the_bytes_of_the_plain_mapper(tmp_path):
    pytest.importorskip("apache_beam")
    from projects.video_engine.beam_mapper import BeamMapper

    found = clips_of_folder(folder_of(tmp_path / "clips", 5))
    (tmp_path / "clips" / "02.gif").write_bytes(b"no picture")
    limits = Limits(failed=0.5)
    run_engine(found, engine(), tmp_path / "plain", limits)
    mapper = BeamMapper("DirectRunner", options=["--direct_running_mode=in_memory"])
    run_engine(found, engine(), tmp_path / "beam", limits, mapper=mapper)
    assert files_of(tmp_path / "plain") == files_of(tmp_path / "beam")
    assert len(lines(tmp_path / "beam" / "rows.jsonl")) == 4
    entries = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.json")}
        for folder in (tmp_path / "plain" / "ledger", tmp_path / "beam" / "ledger")
    ]
    assert entries[0] == entries[1]


def test_a_mistake_of_a_stage_ends_the_run_on_beam(tmp_path):
    pytest.importorskip("apache_beam")
    from keras_pe.data_engine import Engine
    from projects.video_engine.beam_mapper import BeamMapper

    found = clips_of_folder(folder_of(tmp_path / "clips", 1))
    stages = [Letters(gives=["caption"], change=wrong)]
    with pytest.raises(Exception, match=r"letters returned \['other'\]"):
        run_engine(found, Engine(stages), tmp_path / "output", mapper=BeamMapper())


def wrong(row):
    return {"other": 1}


def test_an_unknown_runner_is_refused():
    pytest.importorskip("apache_beam")
    from projects.video_engine.beam_mapper import BeamMapper

    with pytest.raises(ValueError, match="expected one of DirectRunner"):
        BeamMapper("HadoopRunner")
