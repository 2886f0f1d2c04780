"""The experiment's comparisons on planted scores: right gains, in the right columns."""

import pytest

from projects.emoji.alignment.experiment import compare, find_encoders, table
from tests.projects.emoji.planted_sweeps import planted

pytestmark = [pytest.mark.quick, pytest.mark.once]


def one_task():
    core = {seed: planted({4: 0.50, 5: 0.60, 6: 0.55}) for seed in (0, 1)}
    both = {
        0: planted({4: 0.50, 5: 0.61, 6: 0.62}, 1e-3),
        1: planted({4: 0.50, 5: 0.61, 6: 0.64}, 1e-3),
    }
    random = {0: planted({6: 0.55}, 0.05)}
    return {"core": core, "both": both, "both-of-another": random}


def test_the_last_layer_is_compared_with_the_highest_of_the_core():
    found = compare({"tracking": one_task()})["tracking"]
    gains = found["both"]["gain of the last layer over"]
    assert list(gains) == [
        "the core's layer 5",
        "the core's layer 6",
        "its own layer 5",
    ]
    assert gains["the core's layer 5"]["gain"] == pytest.approx(0.03)
    assert gains["the core's layer 5"]["of each seed"] == pytest.approx([0.02, 0.04])
    assert gains["the core's layer 6"]["gain"] == pytest.approx(0.08)
    assert gains["its own layer 5"]["gain"] == pytest.approx(0.02)
    assert gains["the core's layer 5"]["low"] > 0.02
    random = found["both-of-another"]["gain of the last layer over"]
    # Seed 0 alone has both; the mean of two seeds is not what it is compared with.
    assert random["both"]["gain"] == pytest.approx(0.55 - 0.62)
    assert (
        random["the core's layer 6"]["low"] < 0 < random["the core's layer 6"]["high"]
    )


def test_the_table_marks_what_is_more_than_chance():
    text = table(compare({"tracking": one_task(), "parts_unseen_families": one_task()}))
    (row,) = {line for line in text.splitlines() if line.startswith("| both |")}
    assert row.startswith("| both | 2 | 50.0 | 61.0 | **63.0** | **+3.0** (")
    (random,) = {r for r in text.splitlines() if r.startswith("| both-of-another |")}
    assert random.startswith("| both-of-another | 1 |  |  | **55.0** | -5.0 (")
    assert text.count("**tracking") == 1


def test_the_best_layer_of_an_error_is_the_lowest():
    core = {0: planted({4: 0.50, 5: 0.40, 6: 0.45}, higher_is_better=False)}
    both = {0: planted({4: 0.50, 5: 0.41, 6: 0.39}, higher_is_better=False)}
    found = compare({"depth": {"core": core, "both": both}})
    gains = found["depth"]["both"]["gain of the last layer over"]
    assert gains["the core's layer 5"]["gain"] == pytest.approx(0.01)
    assert gains["its own layer 5"]["gain"] == pytest.approx(0.02)
    rows = table(found).splitlines()
    assert "| core |  | 50.0 | **40.0** | 45.0 |  |  |  |" in rows
    assert any(row.startswith("| both | 1 | 50.0 | 41.0 | **39.0** |") for row in rows)


def test_a_score_is_not_taken_for_an_error():
    core = {0: planted({4: 0.50, 5: 0.40, 6: 0.45})}
    with pytest.raises(ValueError, match="depth: its scores are said to be errors"):
        compare({"depth": {"core": core}})


def test_encoders_are_found_by_configuration_and_seed(tmp_path):
    for name in ("both-0", "both-1", "masks-0", "notes"):
        (tmp_path / name / "preset").mkdir(parents=True)
    (tmp_path / "features-0").mkdir()  # not finished
    found = find_encoders(tmp_path, "pe_core_emoji_small_patch8_64")
    seeds = {config: [seed for seed, _ in seeded] for config, seeded in found.items()}
    assert seeds == {"core": [0, 1], "both": [0, 1], "masks": [0]}
    with pytest.raises(ValueError, match="no finished alignment"):
        find_encoders(tmp_path / "notes", "pe_core_emoji_small_patch8_64")
