"""J, F, mIoU, RMSE and PCK against independent code and cases done by hand."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from keras_pe.probing import Correspondence, Depth, PointPairs, Segmentation
from keras_pe.probing.depth import squared_errors
from keras_pe.probing.mask_scores import boundary_score, contour, region_score
from keras_pe.probing.segmentation import overlaps
from keras_pe.probing.tracking import (
    Clip,
    Tracker,
    Tracking,
    cover,
    frame_scores,
    nearest,
    neighbourhood,
    normalized,
    resized,
)

REFERENCE = Path(__file__).parents[1] / "reference" / "dino_tracking.npz"
pytestmark = [pytest.mark.quick, pytest.mark.once]


def random_masks(seed, size=(23, 31)):
    """Returns two blobs that overlap in part."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[: size[0], : size[1]]
    masks = []
    for _ in range(2):
        centre = rng.uniform(5, 18, 2)
        distance = np.hypot(row - centre[0], column - centre[1])
        masks.append(distance + rng.uniform(0, 2, size) < rng.uniform(4, 9))
    return masks


def slow_boundary_score(ours, theirs, radius):
    """Compares all contour pixels with all others."""
    places = [np.argwhere(contour(mask)) for mask in (ours, theirs)]
    if not len(places[0]) and not len(places[1]):
        return 1.0
    if not len(places[0]) or not len(places[1]):
        return 0.0
    squares = np.square(places[0][:, None] - places[1][None]).sum(axis=-1)
    near = squares <= radius**2
    precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tolerance", [0.008, 0.05])
def test_region_and_boundary(seed, tolerance):
    ours, theirs = random_masks(seed)
    wanted = jaccard_score(theirs.ravel(), ours.ravel())
    assert region_score(ours, theirs) == pytest.approx(wanted)
    radius = int(np.ceil(tolerance * np.hypot(23, 31)))
    assert boundary_score(ours, theirs, tolerance) == pytest.approx(
        slow_boundary_score(ours, theirs, radius)
    )


def test_contour_by_hand():
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    wanted = np.zeros((5, 5), bool)
    wanted[1:3, 1:3] = True  # the pixel, and those whose right or lower one it is
    np.testing.assert_array_equal(contour(mask), wanted)
    assert not contour(np.ones((4, 4), bool)).any()


def test_masks_that_are_not_there():
    empty, full = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    full[2:4, 2:4] = True
    assert (region_score(empty, empty), boundary_score(empty, empty)) == (1.0, 1.0)
    assert (region_score(full, empty), boundary_score(full, empty)) == (0.0, 0.0)
    # An object that left the image counts, and must not be seen.
    gone = np.zeros((8, 8), "uint8")
    np.testing.assert_array_equal(frame_scores(gone, gone, [1, 2]), [2, 2, 2])
    seen = full.astype("uint8") * 2
    np.testing.assert_array_equal(frame_scores(seen, gone, [1, 2]), [1, 1, 2])


def test_mean_iou():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 4, (6, 8, 9)).astype("uint8")
    guesses = np.where(rng.uniform(size=masks.shape) < 0.6, masks, 1)
    masks[:, 0] = 255
    found = overlaps([(guesses[:4], masks[:4]), (guesses[4:], masks[4:])], 5)
    kept = masks != 255
    wanted = jaccard_score(masks[kept], guesses[kept], average=None)
    # Class 4 is neither there nor named: it has no part in the mean.
    assert Segmentation().score(found.mean(axis=0)) == pytest.approx(wanted.mean())


def test_a_class_that_training_never_showed_counts_as_0():
    # Half of the pixels are named rightly, the others are of a class without a name.
    masks = np.zeros((2, 4, 4), "uint8")
    masks[:, 2:] = 7
    masks[1, 3] = 255
    found = overlaps([(np.zeros_like(masks), masks)], 2)
    assert found.shape == (2, 16)  # 0 to 7, intersection and union each
    kept = masks != 255
    wanted = jaccard_score(masks[kept], np.zeros(kept.sum()), average=None)
    assert wanted.tolist() == [16 / 28, 0.0]
    assert Segmentation().score(found.mean(axis=0)) == pytest.approx(wanted.mean())


def test_root_mean_square_error():
    rng = np.random.default_rng(0)
    depths = rng.uniform(1, 9, (5, 6, 7))
    depths[rng.uniform(size=depths.shape) < 0.2] = 0
    guesses = depths + rng.normal(size=depths.shape)
    known = depths > 0
    wanted = np.sqrt(np.square(guesses[known] - depths[known]).mean())
    found = squared_errors([(guesses, depths)]).mean(axis=0)
    assert Depth().score(found) == pytest.approx(wanted)


# === Tracking ===
def test_grids_by_hand():
    labels = np.zeros((4, 4, 2))
    labels[:2, :3, 1] = 1
    np.testing.assert_allclose(cover(labels, (2, 2))[:, 1], [1, 0.5, 0, 0])
    with pytest.raises(ValueError, match="no whole number"):
        cover(labels, (3, 2))
    middle = nearest(np.arange(24.0).reshape(4, 6, 1), (2, 2))
    assert middle.ravel().tolist() == [7, 10, 19, 22]
    near = neighbourhood(2, 3, 1)
    np.testing.assert_array_equal(near[0].reshape(2, 3), [[1, 1, 0], [1, 1, 0]])
    assert neighbourhood(2, 3, None).all()
    up = resized(np.array([[[0.0], [1.0]]]), (1, 4))[0, :, 0]
    np.testing.assert_allclose(up, [0, 0.25, 0.75, 1])


def test_maps_from_0_to_1_by_hand():
    maps = np.zeros((1, 3, 4))
    maps[0, :, 0] = [0.9, 0.8, 0.7]  # background
    maps[0, :, 1] = [0.0, 0.1, 0.2]  # an object that has faded
    maps[..., 2] = 0.1  # one that is the same everywhere stays as it is
    found = normalized(maps)[0].T
    np.testing.assert_allclose(found[:2], [[1, 0.5, 0], [0, 0.5, 1]], atol=1e-12)
    np.testing.assert_array_equal(found[2:], [[0.1] * 3, [0.0] * 3])


@pytest.mark.parametrize("radius", [2, 12])
@pytest.mark.parametrize("kind", ["noisy", "tied"])
def test_tracking_equals_dino(kind, radius):
    # Masks by DINO's `label_propagation` and `norm_mask` (commit 7c446df) in PyTorch:
    # three frames of context, four votes. "tied" has cosines of 0 and 1 alone.
    with np.load(REFERENCE) as reference:
        masks, features = reference["masks"], reference[kind]
        wanted = reference[f"masks_{kind}_{radius}"]

    def tracked(**options):
        probe = Tracking(context=3, top_k=4, radius=radius, **options)
        tracker = Tracker(probe, masks[0], features.shape[1:3])
        return np.stack([tracker.step(frame) for frame in features])[1:]

    np.testing.assert_array_equal(tracked(), wanted)
    # It is the rule that does it: each part alone gives other masks.
    for options in ({"first_mask": "cover"}, {"normalize": False}):
        assert (tracked(**options) != wanted).any()


def slow_tracking(clip, features, probe):
    """The same rule, patch by patch."""
    rows, columns = features.shape[1:3]
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    count = int(clip.masks[0].max()) + 1
    one_hot = np.eye(count)[clip.masks[0]]
    labels = [cover(one_hot, (rows, columns))]
    if probe.first_mask == "nearest":
        labels = [one_hot[2::4, 2::4].reshape(rows * columns, count)]
    for t in range(1, len(features)):
        frames = [0, *range(max(1, t - probe.context), t)]
        found = np.zeros((rows * columns, count))
        for place in range(rows * columns):
            r, c = divmod(place, columns)
            votes = []
            for frame in frames:
                for other in range(rows * columns):
                    r2, c2 = divmod(other, columns)
                    if max(abs(r - r2), abs(c - c2)) <= probe.radius:
                        cosine = unit[t, r, c] @ unit[frame, r2, c2]
                        votes.append((cosine, labels[frame][other]))
            votes = sorted(votes, key=lambda vote: -vote[0])[: probe.top_k]
            weights = np.exp([cosine / probe.temperature for cosine, _ in votes])
            found[place] = sum(
                weight * label
                for weight, (_, label) in zip(weights, votes, strict=True)
            ) / sum(weights)
        labels.append(found)
    masks = []
    for flat in labels:
        maps = resized(flat.reshape(rows, columns, count), clip.masks.shape[1:])
        for label in range(count) if probe.normalize else ():
            maps[..., label] -= maps[..., label].min()
            maps[..., label] /= maps[..., label].max() or 1.0
        masks.append(maps.argmax(-1))
    scored = [
        frame_scores(m, t, [1, 2]) for m, t in zip(masks, clip.masks, strict=True)
    ]
    return np.mean(scored[1:-1], axis=0)


@pytest.mark.parametrize("options", [{}, {"first_mask": "cover", "normalize": False}])
def test_tracking_equals_the_slow_rule(options):
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(6, 16, 16, 3)).astype("float32")
    masks = rng.integers(0, 3, (6, 4, 4)).repeat(4, 1).repeat(4, 2).astype("uint8")
    features = rng.normal(size=(6, 4, 4, 5)).astype("float32")
    features[1:] = 0.6 * features[:1] + 0.4 * features[1:]
    probe = Tracking(context=2, top_k=3, radius=2, frames_at_once=4, **options)
    calls = []

    def maps(images):
        calls.append(len(images))
        start = 4 * (len(calls) - 1)
        rows = np.minimum(np.arange(start, start + 4), 5)
        return [features[rows]]

    clip = Clip(frames, masks)
    (found,) = probe.measure(clip, maps)
    assert calls == [4, 4]
    np.testing.assert_allclose(found, slow_tracking(clip, features, probe))


def test_clips_that_make_no_sense_are_named():
    frames, masks = np.zeros((2, 8, 8, 3), "float32"), np.zeros((2, 8, 8), "uint8")
    probe = Tracking()
    with pytest.raises(ValueError, match="'a': the first mask holds no object"):
        probe.baseline(Clip(frames, masks, "a"))
    with pytest.raises(ValueError, match="with one mask each"):
        probe.baseline(Clip(frames, masks[:1], "a"))
    with pytest.raises(ValueError, match="expected one of \\('nearest', 'cover'"):
        Tracking(first_mask="bilinear")


@pytest.mark.parametrize("dtype", ["int64", "int16", "uint16"])
@pytest.mark.parametrize("number", [300, 256, -1])
def test_masks_beyond_a_byte_are_named(dtype, number):
    frames, masks = np.zeros((3, 8, 8, 3), "float32"), np.ones((3, 8, 8), dtype)
    if number < 0 and dtype == "uint16":
        number = 65535
    masks[1, 2, 3:5] = number
    wanted = f"'a': the mask of frame 1 holds {number} at row 2, column 3, and 1 more"
    with pytest.raises(ValueError, match=wanted):
        Tracking().baseline(Clip(frames, masks, "a"))


@pytest.mark.parametrize("dtype", ["float32", "complex64", object])
def test_masks_that_are_no_whole_numbers_are_refused(dtype):
    frames, masks = np.zeros((3, 8, 8, 3), "float32"), np.ones((3, 8, 8), dtype)
    with pytest.raises(ValueError, match=f"'a': masks have dtype {np.dtype(dtype)}"):
        Tracking().baseline(Clip(frames, masks, "a"))


@pytest.mark.parametrize("dtype", ["int64", "uint16", bool])
def test_wider_masks_that_fit_score_the_same(dtype):
    frames = np.zeros((3, 8, 8, 3), "float32")
    masks = np.random.default_rng(0).integers(0, 2, (3, 8, 8)).astype("uint8")
    narrow, wide = Clip(frames, masks), Clip(frames, masks.astype(dtype))
    probe = Tracking()
    np.testing.assert_array_equal(probe.baseline(narrow), probe.baseline(wide))


# === Correspondence ===
def test_correspondence_by_hand():
    images = np.zeros((2, 16, 16, 3), "float32")
    first = np.eye(4).reshape(2, 2, 4)
    second = first[::-1]  # upper and lower patches change places
    points = np.array([[[1.0, 1.0], [12.0, 4.0]], [[9.0, 9.0], [9.0, 9.0]]])
    probe = Correspondence(tolerance=0.1)
    (found,) = probe.measure(
        PointPairs(images, points), lambda _: [np.stack([first, second])]
    )
    # Patch (0, 0) is found at (1, 0), centre (12, 4): right. The other went up.
    np.testing.assert_array_equal(found, [1, 2])
    np.testing.assert_array_equal(probe.baseline(PointPairs(images, points)), [1, 2])
    with pytest.raises(ValueError, match="has no points"):
        probe.baseline(PointPairs(images, points[:0]))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint64", "int8", "float16"])
def test_points_of_any_dtype_score_the_same(dtype):
    images = np.zeros((2, 16, 16, 3), "float32")
    points = np.array([[[1, 1], [2, 2]], [[3, 9], [12, 4]]])  # differences below 0
    maps = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    probe, wide = Correspondence(), PointPairs(images, points)
    pair = PointPairs(images, points.astype(dtype))
    np.testing.assert_array_equal(probe.baseline(pair), probe.baseline(wide))
    np.testing.assert_array_equal(probe.baseline(pair), [1, 2])
    ours, theirs = (
        probe.measure(pair, lambda _: [maps]),
        probe.measure(wide, lambda _: [maps]),
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "point 1 of 2 holds NaN"), (-1, "number 1 of 2"), (17, "16 x 24 pixels")],
)
def test_points_that_are_nowhere(value, message):
    points = np.full((2, 2, 2), 16.0)
    points[1, 0, 0] = value
    pair = PointPairs(np.zeros((2, 16, 24, 3), "float32"), points)
    with pytest.raises(ValueError, match=message):
        Correspondence().baseline(pair)
