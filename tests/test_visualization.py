# SPDX-License-Identifier: GPL-3.0-or-later
import io

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from sqair.evaluation import sheet, visualization


def example(seq_len=3, batch=2, slots=2, size=(20, 30), channels=1, seed=0):
    """Random arrays of a prediction in which every slot is present within the image, with its index as id."""
    rng = np.random.RandomState(seed)
    frames = (seq_len, batch)
    boxes = np.tile([4.0, 5.0, 8.0, 10.0], frames + (slots, 1)) + rng.uniform(-3, 3, frames + (slots, 4))
    return {
        "images": rng.rand(*frames, *size, channels).astype(np.float32),
        "reconstructions": rng.rand(*frames, *size, channels).astype(np.float32),
        "boxes": boxes,
        "presence": np.ones(frames + (slots,)),
        "object_ids": np.tile(np.arange(slots, dtype=np.float32), frames + (1,)),
    }


def glimpse_example(**sizes):
    prediction = example(**sizes)
    shape = prediction["presence"].shape
    channels = prediction["images"].shape[-1]
    return dict(prediction, glimpses=np.ones(shape + (6, 6, channels)), presence_prob=np.full(shape, 0.25))


def marks(figure, gid):
    return [artist for artist in figure.findobj() if artist.get_gid() == gid]


@pytest.mark.parametrize("seq_len, batch, slots", [(1, 1, 1), (3, 2, 2), (10, 1, 4), (2, 6, 3)])
@pytest.mark.parametrize("size, channels", [((20, 30), 1), ((40, 10), 3)])
def test_each_present_slot_has_a_box_on_input_and_reconstruction(seq_len, batch, slots, size, channels):
    prediction = example(seq_len, batch, slots, size, channels)
    prediction["presence"] = np.random.RandomState(1).randint(0, 2, prediction["presence"].shape)
    figure = visualization.tracking_figure(**prediction, max_sequences=4)
    shown = int(prediction["presence"][:, :4].sum())
    assert len(marks(figure, "box")) == 2 * shown
    assert len(marks(figure, "number")) == 2 * shown
    assert len(figure.axes[0].images) == 2 * seq_len * min(batch, 4)
    assert figure.axes[0].texts[-1].get_text().startswith("colour")


def test_without_reconstructions_there_are_the_inputs_alone():
    prediction = dict(example(seq_len=3, batch=2, slots=2, channels=3), reconstructions=None)
    figure = visualization.tracking_figure(**prediction)
    assert [text.get_text() for text in figure.axes[0].texts].count("input") == 2
    assert "model" not in [text.get_text() for text in figure.axes[0].texts]
    assert len(figure.axes[0].images) == 3 * 2 and len(marks(figure, "box")) == 3 * 2 * 2
    nothing = {
        "boxes": np.zeros((3, 2, 0, 4)),
        "presence": np.zeros((3, 2, 0)),
        "object_ids": np.zeros((3, 2, 0)),
    }
    assert not marks(visualization.tracking_figure(**dict(prediction, **nothing)), "box")


def test_a_box_keeps_the_colour_and_number_of_its_object():
    prediction = example(seq_len=4, batch=1, slots=2)
    prediction["object_ids"][2:, 0] = [1, 7]  # object 1 moves to slot 0
    figure = visualization.tracking_figure(**prediction)
    drawn = [to_hex(patch.get_edgecolor()) for patch in marks(figure, "box")]
    numbers = [text.get_text() for text in marks(figure, "number")]
    assert numbers == ["0", "1"] * 4 + ["1", "7"] * 4
    assert drawn == [sheet.COLOURS[int(number)] for number in numbers]
    for text, colour in zip(marks(figure, "number"), drawn):
        assert to_hex(text.get_bbox_patch().get_facecolor()) == colour


def test_the_box_frames_the_pixels_it_names():
    prediction = example(seq_len=1, batch=1, slots=1, size=(20, 40))
    prediction["images"][:] = 0
    prediction["reconstructions"][:] = 0
    prediction["reconstructions"][0, 0, 5:15, 10:30] = 1
    prediction["boxes"][0, 0, 0] = 5, 10, 10, 20
    figure = visualization.tracking_figure(**prediction)
    patch, (x0, x1, y1, y0) = marks(figure, "box")[1], figure.axes[0].images[1].get_extent()
    np.testing.assert_allclose(
        [(patch.get_y() - y0) / (y1 - y0), (patch.get_x() - x0) / (x1 - x0)], [5 / 20, 10 / 40], atol=1e-6
    )
    pixels = visualization.to_array(figure)
    left, top, right, bottom = (
        int(round(sheet.DOTS_PER_INCH * v))
        for v in (
            patch.get_x(),
            patch.get_y(),
            patch.get_x() + patch.get_width(),
            patch.get_y() + patch.get_height(),
        )
    )
    assert np.all(pixels[bottom - 8 : bottom - 3, left + 3 : right - 3] == 255)  # the digit fills the box
    assert np.all(pixels[bottom + 3 : bottom + 8, left + 3 : right - 3] == 0)
    colour = 255 * np.array(to_rgb(sheet.COLOURS[0]))
    np.testing.assert_allclose(pixels[bottom - 5, left], colour, atol=40)


def test_nothing_of_a_box_shows_beyond_its_frame():
    inside = example(seq_len=2, batch=1, slots=1)
    beyond = dict(inside, boxes=inside["boxes"].copy(), presence=inside["presence"].copy())
    beyond["boxes"][0, 0, 0] = -50, -50, 200, 200  # around everything: no edge to be seen
    beyond["boxes"][1, 0, 0] = 3, 500, 5, 5
    seen = visualization.to_array(visualization.tracking_figure(**beyond))
    beyond["presence"][:] = 0
    without = visualization.to_array(visualization.tracking_figure(**beyond))
    rows, columns = np.nonzero(np.any(seen != without, -1))
    figure = visualization.tracking_figure(**inside)
    x0, x1, _, y0 = figure.axes[0].images[0].get_extent()
    assert len(rows)  # the number of the first, in the corner of the first frame
    number = 0.25 * sheet.DOTS_PER_INCH
    for frame_row in np.split(np.unique(rows), np.flatnonzero(np.diff(np.unique(rows)) > 1) + 1):
        assert len(frame_row) < number
    assert columns.max() - x0 * sheet.DOTS_PER_INCH < number
    assert rows.min() >= y0 * sheet.DOTS_PER_INCH


def test_true_boxes_are_dashed_on_the_inputs_alone():
    prediction = example(seq_len=3, batch=2)
    true_boxes, true_presence = prediction["boxes"][:, :, :1], np.array([[1, 0], [1, 1], [0, 0]])[..., None]
    figure = visualization.tracking_figure(**prediction, true_boxes=true_boxes, true_presence=true_presence)
    dashed = marks(figure, "true box")
    assert len(dashed) == 3
    assert all(patch.get_linestyle() != "solid" for patch in dashed)
    assert len(marks(visualization.tracking_figure(**prediction, true_boxes=true_boxes), "true box")) == 6


def test_glimpses_are_titled_and_bordered_or_greyed():
    prediction = glimpse_example(seq_len=2, batch=2, slots=3)
    prediction["presence"][0, 1, 2] = 0
    prediction["presence_prob"][1, 1, 0] = 0.987
    figure = visualization.glimpse_figure(**prediction, sequence=1)
    assert [to_hex(p.get_edgecolor()) for p in marks(figure, "glimpse")] == [
        sheet.COLOURS[slot] for slot in (0, 0, 1, 1, 2)
    ]
    titles = [text.get_text() for text in marks(figure, "probability")]
    assert titles == ["0.25", "0.99", "0.25", "0.25", "0.25", "0.25"]
    glimpses = figure.axes[0].images[:6]
    assert [float(image.get_array().min()) < 1 for image in glimpses] == [False] * 4 + [True, False]
    assert len(marks(figure, "box")) == 2 * 5


def test_what_a_broken_model_draws_is_shown_without_complaint():
    prediction = example(seq_len=1, batch=1, slots=2)
    prediction["reconstructions"][0, 0, :5] = np.nan
    prediction["reconstructions"][0, 0, 5:] = 7.0
    prediction["boxes"][0, 0, 0] = np.nan
    prediction["object_ids"][0, 0, 1] = -1
    figure = visualization.tracking_figure(**prediction)
    assert [text.get_text() for text in marks(figure, "number")] == ["?", "?"]
    visualization.to_array(figure)


def test_png_and_array_show_the_same():
    figure = visualization.glimpse_figure(**glimpse_example())
    png, array = visualization.to_png(figure), visualization.to_array(figure)
    assert png.startswith(b"\x89PNG")
    assert array.dtype == np.uint8
    with Image.open(io.BytesIO(png)) as image:
        np.testing.assert_array_equal(np.asarray(image)[..., :3], array)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"images": np.zeros((3, 2, 20, 30))}, r"images has shape \(3, 2, 20, 30\)"),
        ({"images": np.zeros((3, 2, 20, 30, 2))}, "C of 1 or 3"),
        ({"boxes": np.zeros((3, 2, 2, 3))}, r"boxes has shape .* \(3, 2, 2, 4\) is needed"),
        ({"presence": np.zeros((2, 3, 2))}, r"\(3, 2, any\) is needed"),
        ({"object_ids": np.zeros((3, 2, 1))}, "object_ids has shape"),
        ({"true_boxes": np.zeros((3, 1, 2, 4))}, "true_boxes has shape"),
    ],
)
def test_wrong_shapes_are_reported(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        visualization.tracking_figure(**dict(example(), **change))


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"glimpses": np.zeros((3, 2, 2, 6, 6, 3))}, "glimpses has shape"),
        ({"presence_prob": np.zeros((3, 2))}, "presence_prob has shape"),
        ({"sequence": 2}, "sequence is 2, but the batch holds sequences 0 to 1"),
    ],
)
def test_wrong_glimpses_are_reported(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        visualization.glimpse_figure(**dict(glimpse_example(), **change))


# What a model imagines


def imagined(**sizes):
    prediction = example(**sizes)
    return [prediction[name] for name in ("reconstructions", "boxes", "presence", "object_ids")]


def row_labels(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_rotation() == 90]


def test_samples_are_a_row_each():
    figure = visualization.generation_figure(*imagined(seq_len=4, batch=9), max_sequences=3, max_frames=2)
    assert row_labels(figure) == ["sample 1", "sample 2", "sample 3"]
    assert len(figure.axes[0].images) == 3 * 2 and len(marks(figure, "box")) == 3 * 2 * 2
    assert figure.axes[0].texts[-1].get_text() == "colour, number: object id"


def test_futures_are_below_the_video_that_they_continue():
    """The video has no boxes, and may be shorter."""
    videos = [np.full((length, 20, 30, 1), 0.25 * length) for length in (2, 3)]
    figure = visualization.generation_figure(*imagined(seq_len=3, batch=4, slots=1), videos, num_observed=2)
    assert row_labels(figure) == ["input", "future 1", "future 2"] * 2
    pictures = figure.axes[0].images
    assert len(pictures) == 2 + 3 + 4 * 3 and len(marks(figure, "box")) == 4 * 3
    for picture, brightness in ((pictures[0], 0.5), (pictures[2 + 2 * 3], 0.75)):
        np.testing.assert_allclose(picture.get_array(), brightness)
    assert "the model saw frames 1 to 2" in figure.axes[0].texts[-1].get_text()


def test_videos_that_do_not_fit_what_is_imagined_are_refused():
    arrays = imagined(seq_len=3, batch=4)
    with pytest.raises(ValueError, match="4 videos do not continue 3 equally often"):
        visualization.generation_figure(*arrays, [np.zeros((3, 20, 30, 1))] * 3)
    with pytest.raises(ValueError, match="images has shape"):
        visualization.generation_figure(*arrays, [np.zeros((3, 30, 20, 1))])
    with pytest.raises(ValueError, match="presence has shape"):
        visualization.generation_figure(arrays[0], arrays[1], arrays[2][:2], arrays[3])
