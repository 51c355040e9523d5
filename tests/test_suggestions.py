# SPDX-License-Identifier: GPL-3.0-or-later
import re

import numpy as np
import pytest
from tf_run import run

from sqair.evaluation import suggestions
from sqair.model.spatial_transformer import boxes_from_logits

SIZE = (30, 40)


def scene(num_objects=2, contrast=0.5, noise=0.0, ground=0.0, channels=1, frames=12, side=(5, 9)):
    """Bright rectangles that move by a pixel a frame, apart from each other; images, boxes, presence of one video."""
    rng = np.random.RandomState(0)
    images = np.full((frames, 1, *SIZE, channels), ground, np.float32)
    boxes = np.zeros((frames, 1, 3, 4), np.float32)
    for t in range(frames):
        for i in range(num_objects):
            y, x = 2 + 9 * i, 1 + 2 * t
            images[t, 0, y : y + side[0], x : x + side[1]] += contrast
            boxes[t, 0, i] = y, x, *side
    images += noise * rng.standard_normal(images.shape).astype(np.float32)
    return images, boxes, (boxes[..., 2] > 0).astype(np.float32)


def suggested(images, boxes, presence):
    measures = suggestions.measure(images, boxes, presence)
    return {flag: (value, why) for flag, value, why in suggestions.suggest(measures, SIZE)}


def test_scale_logits_are_those_of_the_models_boxes():
    sizes = np.array([[6.0, 8.0], [20.0, 3.0], [30.0, 40.0]])
    y, x = suggestions.scale_logits(sizes, SIZE).T
    where = np.stack([x, y, 0 * x, 0 * y], -1).astype(np.float32)
    np.testing.assert_allclose(run(boxes_from_logits(where, SIZE))[:, 2:], sizes, rtol=1e-4)


@pytest.mark.parametrize("annotated", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_size_number_and_contrast_are_found_with_and_without_truth(annotated, channels):
    images, boxes, presence = scene(channels=channels)
    slots = 3 if annotated else 0
    measures = suggestions.measure(images, boxes[:, :, :slots], presence[:, :, :slots])
    assert measures.annotated == annotated and measures.ground == 0 and measures.noise == 0
    assert measures.contrast == pytest.approx(0.5) and measures.foreground == pytest.approx(2 * 45 / 1200)
    np.testing.assert_array_equal(measures.sizes, [[5, 9]] * 24)
    assert measures.counts.tolist() == [2] * 12
    assert measures.light == pytest.approx(45 * 0.5 * channels**0.5)
    found = suggested(images, boxes[:, :, :slots], presence[:, :, :slots])
    x, y = (float(number) for number in found["scale_prior"][0].split(","))
    assert x == pytest.approx(
        np.log(9 / 41 / (1 - 9 / 41)) - 1.3, abs=0.05
    )  # the x axis first, as the flag has it
    assert y == pytest.approx(np.log(5 / 31 / (1 - 5 / 31)) - 1.3, abs=0.05)
    assert found["n_steps_per_image"][0] == "2"
    assert found["output_std"][0] == {1: "0.09", 3: "0.16"}[channels]  # 0.3 * 22.5 / 75
    assert found["disc_step_bias"][0] == "5"
    kind = "annotated objects" if annotated else "connected pieces"
    assert all(kind in found[flag][1] for flag in ("scale_prior", "n_steps_per_image"))


def test_noise_is_that_of_the_ground_and_sets_the_least_output_std():
    images, boxes, presence = scene(contrast=0.9, noise=0.05)
    measures = suggestions.measure(images, boxes, presence)
    assert measures.noise == pytest.approx(0.05, rel=0.15)
    for noise, contrast, wanted in ((0.1, 0.7, "0.28"), (0.15, 0.7, "0.3")):
        changed = measures._replace(noise=noise, contrast=contrast, light=75.0)
        assert suggestions.suggest(changed, SIZE)[2].value == wanted


def test_weak_objects_are_to_be_drawn_more_exactly_and_looked_for_longer():
    measures = suggestions.measure(*scene(contrast=0.9))._replace(contrast=0.8, light=75.0)
    names = lambda m: {s.flag: s.value for s in suggestions.suggest(m, SIZE)}  # noqa: E731
    assert names(measures)["output_std"] == "0.3" and "disc_step_bias" not in names(measures)
    weak = names(measures._replace(light=75.0 / 2))
    assert weak["output_std"] == "0.15" and weak["disc_step_bias"] == "5"
    assert names(measures._replace(light=7500.0))["output_std"] == "0.32"  # 0.4 of the contrast


def test_a_piece_at_the_border_counts_but_says_nothing_of_the_size():
    images, boxes, presence = scene(1)
    images = np.concatenate([images, np.zeros_like(images[:1]), np.zeros_like(images)])  # the median is black
    images[:12, 0, 20:24, :5] = 0.5
    images[:12, 0, 28, 20] = 0.5  # a speck
    measures = suggestions.measure(images, boxes[:, :, :0], presence[:, :, :0])
    assert measures.counts.tolist() == [2] * 12 + [0] * 13
    np.testing.assert_array_equal(measures.sizes, [[5, 9]] * 12)
    cut = np.array([[[[-3, 2, 6, 8]]], [[[5, 36, 6, 8]]], [[[-9, 2, 6, 8]]], [[[22, 32, 6, 8]]]], np.float32)
    measures = suggestions.measure(np.zeros((4, 1, *SIZE, 1)), cut, np.ones((4, 1, 1)))
    assert measures.counts.tolist() == [1, 1, 0, 1] and measures.sizes.tolist() == [[6, 8]]


@pytest.mark.parametrize(
    "options, why",
    [
        (dict(contrast=0.0), "nothing stands out"),
        (dict(contrast=0.2, noise=0.1), "noise of .* hides objects"),
        (dict(num_objects=0, noise=0.1), "noise of .* hides objects"),
        (None, "of the pixels change, as with a moving camera"),
    ],
)
def test_what_cannot_be_told_is_said_to_be_so(options, why):
    images, boxes, presence = scene(**(options or {}))
    if options is None:
        images = np.random.RandomState(0).randint(0, 2, images.shape).astype(np.float32)
    without = suggested(images, boxes[:, :, :0], presence[:, :, :0])
    assert {value for value, _ in without.values()} == {None}
    assert all(re.search(why, reason) for _, reason in without.values())
    if presence.any():
        annotated = suggested(images, boxes, presence)
        assert annotated["output_std"][0] is None and annotated["n_steps_per_image"][0] == "2"


def test_annotations_without_a_whole_object_suggest_no_size():
    images, boxes, presence = scene()
    assert suggested(images, boxes, 0 * presence)["scale_prior"] == (
        None,
        "there are no annotated objects wholly in a frame",
    )


def test_remarks_are_made_of_a_ground_that_is_not_black_and_of_missing_truth():
    images, boxes, presence = scene()
    assert suggestions.remarks(suggestions.measure(images, boxes, presence)) == []
    images, boxes, presence = scene(ground=0.3, contrast=-0.3)
    ground, truth = suggestions.remarks(suggestions.measure(images, boxes[:, :, :0], presence[:, :, :0]))
    assert "mean brightness of 0.30" in ground and "--background=difference" in ground
    assert "num_step_acc" in truth
