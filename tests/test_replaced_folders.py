"""What would be lost where a folder takes the place of another one."""

import pytest

from keras_pe.replaced_folders import would_be_lost
from projects.emoji.video.animations import check_clips_target

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_what_is_ones_own_may_go_and_nothing_else(tmp_path):
    assert would_be_lost(tmp_path / "missing", {"a"}, "a") == []
    assert would_be_lost(tmp_path, {"a"}, "a") == []
    for name in "ba":
        (tmp_path / name).touch()
    assert would_be_lost(tmp_path, {"a", "b"}, "a") == []
    assert would_be_lost(tmp_path, {"a"}, "a") == ["b"]
    assert would_be_lost(tmp_path, {"a", "b"}, "mark") == ["a", "b"]
    assert would_be_lost(tmp_path, {"a", "b"}, None) == []


def test_clips_of_somebody_else_stay(tmp_path):
    (tmp_path / "train").mkdir()
    check_clips_target(tmp_path)
    (tmp_path / "holiday.mp4").touch()
    with pytest.raises(ValueError, match=r"holds holiday\.mp4"):
        check_clips_target(tmp_path)
