"""Classes that are not where the others are."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from occupy.ensemble.comparison import _pose_of, pose_notices
from occupy.ensemble.pipeline import estimate_set

VOXEL = (3.0, 3.0, 3.0)


@pytest.fixture(scope="module")
def reference():
    rng = np.random.default_rng(5)
    texture = scipy.ndimage.gaussian_filter(rng.standard_normal((48, 48, 48)), 2.5)
    z, y, x = np.indices(texture.shape) - 23.5
    inside = scipy.ndimage.gaussian_filter(1.0 * (z**2 + (y / 1.2) ** 2 + (x / 0.8) ** 2 < 14**2), 1.5)
    return (inside * (1 + 8 * texture)).astype(np.float32)


def turned(data, degrees):
    return scipy.ndimage.rotate(data, degrees, axes=(1, 2), reshape=False, order=3).astype(np.float32)


def test_the_same_map_lies_where_it_is(reference):
    pose = _pose_of(2.5 * reference, reference, VOXEL)
    assert (pose.shift, pose.angle) == (pytest.approx(0, abs=0.01), pytest.approx(0, abs=0.01))
    assert pose.agreement == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("shift", [(0.4, 0.0, 0.0), (0.3, -0.4, 0.5), (4.0, -3.0, 2.0), (2.3, 0.0, -1.6)])
def test_shifts_are_found(reference, shift):
    moved = scipy.ndimage.shift(reference, shift, order=3).astype(np.float32)
    pose = _pose_of(moved, reference, VOXEL)
    assert pose.shift == pytest.approx(3.0 * np.linalg.norm(shift), abs=0.3)
    assert pose.angle < 0.3


@pytest.mark.parametrize("degrees", [1.5, 4.0])
def test_turns_are_found(reference, degrees):
    pose = _pose_of(turned(reference, degrees), reference, VOXEL)
    assert pose.angle == pytest.approx(degrees, rel=0.25)
    assert pose.shift < 0.5


def altered(tools, made, change):
    """Return a set whose second class has been moved."""
    members = tools["members_of"](made)
    one = made.classes[1]
    data = change(np.asarray(one.map)).astype(np.float32)
    members[1] = tools["member_of"]("moved", data, one.voxel_size, made.weights[1], one.ssnr)
    est = estimate_set(members)
    return [n.text for n in pose_notices(est.scaled, est.names, est.weights)]


def test_aligned_classes_give_no_notice(tools, regularised, alike):
    for made in (regularised, alike):
        est = estimate_set(tools["members_of"](made))
        assert pose_notices(est.scaled, est.names, est.weights) == []


def test_a_shifted_class_is_named(tools, regularised):
    texts = altered(tools, regularised, lambda data: np.roll(data, 2, axis=1))
    # The mean of the others holds it too, so they may be named as well, with smaller shifts.
    shifts = {text.split()[0]: float(text.split()[2]) for text in texts}
    assert max(shifts, key=shifts.get) == "moved"
    assert shifts["moved"] > 5
    assert all("align them first" in text for text in texts)


def test_a_turned_class_is_named(tools, regularised):
    texts = altered(tools, regularised, lambda data: turned(data, 6.0))
    assert "moved" in [text.split()[0] for text in texts]


def test_a_class_of_the_other_hand_is_named(tools, regularised):
    texts = altered(tools, regularised, lambda data: data[::-1])
    assert any(text.startswith("moved ") for text in texts)
