# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracker of the model in the box, on moving digits of the bundle."""

import os
import shutil

import numpy as np
import pytest
from tf_run import run

from sqair.data import mnist, moving_mnist
from sqair.data.pipeline import SequenceDataset
from sqair.errors import UserError
from sqair.evaluation import metrics, tracker
from sqair.evaluation.tracker import Tracker
from sqair.graph_mode import tf

MODEL = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "models", "mlp_sqair")
T, B = 10, 12


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Digits the model has not seen: `SequenceBatch` of arrays, `[T, B, ...]`."""
    folder = str(tmp_path_factory.mktemp("data") / "set")
    moving_mnist.create(folder, mnist.load_bundle(), moving_mnist.Options(), 1, B, num_workers=1)
    with tf.Graph().as_default():
        batches = SequenceDataset(folder, "valid").batches(B, repeat=False)
        return run(tf.data.make_one_shot_iterator(batches).get_next())


@pytest.fixture(scope="module")
def model():
    found = Tracker.from_checkpoint(MODEL)
    yield found
    found.close()


def assert_same(actual, expected):
    for name, a, b in zip(tracker.Tracks._fields, actual, expected):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3, err_msg=name)


def test_it_counts_and_follows_digits(model, videos):
    right, met = [], []
    for b in range(B):
        tracks = model.track(videos.images[:, b])
        right += list(tracks.presence.sum(1) == videos.presence[:, b].sum(1))
        boxes = tracks.tight_boxes, tracks.presence, videos.boxes[:, b], videos.presence[:, b]
        if tracks.presence.any():
            met.append(metrics.share_of_boxes_on_objects(*boxes, videos.images.shape[2:]))
        np.testing.assert_array_equal(tracks.presence, tracks.ids >= 0)
        np.testing.assert_array_equal(tracks.presence, tracks.presence_prob > 0.5)  # the mode
        error = np.mean((tracks.reconstruction - videos.images[:, b]) ** 2)
        assert error < 0.5 * np.mean(videos.images[:, b] ** 2) or not tracks.presence.any()
    assert np.mean(right) > 0.9 and np.mean(met) > 0.9


def test_frame_by_frame_and_in_chunks_is_the_same(model, videos, monkeypatch):
    frames = videos.images[:, 1]
    whole = model.track(frames)
    assert whole.presence.any() and whole.first_frame == 0
    model.reset()
    steps = [model.step(frame) for frame in frames]
    assert [step.first_frame for step in steps] == list(range(T))
    assert_same(tracker.join(steps), whole)
    monkeypatch.setattr(tracker, "CHUNK", 4)
    chunks = list(model.stream(iter(frames)))
    assert [len(chunk.ids) for chunk in chunks] == [4, 4, 2]
    assert_same(tracker.join(chunks), whole)


def test_frames_come_in_several_forms(model, videos):
    frames = videos.images[:3, 1]
    wanted = model.track(frames)
    assert_same(model.track(frames[..., 0].astype(np.float64)), wanted)
    assert_same(model.track(np.round(255 * frames).astype(np.uint8)), wanted)


@pytest.mark.slow
def test_samples_depend_on_the_frame_alone(model, videos, monkeypatch):
    sampler = Tracker.from_checkpoint(MODEL, seed=1)
    wanted = sampler.track(videos.images[:, 1])
    monkeypatch.setattr(tracker, "CHUNK", 3)
    assert_same(sampler.track(videos.images[:, 1]), wanted)
    sampler.close()
    assert np.abs(model.track(videos.images[:, 1]).what - wanted.what).max() > 0.1


def test_what_is_changed_is_drawn(model, videos):
    tracks = model.track(videos.images[:, 1])
    assert_same(model.decode(tracks), tracks)
    none = model.decode(tracks._replace(presence=np.zeros_like(tracks.presence)))
    assert none.reconstruction.max() < 1e-3 and not none.glimpses.any()
    moved = tracks.where.copy()
    moved[..., 2] += 0.3  # to the right
    found, t = model.decode(tracks._replace(where=moved)), np.flatnonzero(tracks.presence[:, 0])[0]
    assert found.boxes[t, 0, 1] > tracks.boxes[t, 0, 1] + 2
    np.testing.assert_allclose(found.boxes[..., [0, 2, 3]], tracks.boxes[..., [0, 2, 3]], atol=1e-3)
    columns = (
        np.arange(50) @ found.reconstruction[t].sum((0, 2)),
        np.arange(50) @ tracks.reconstruction[t].sum((0, 2)),
    )
    assert columns[0] / found.reconstruction[t].sum() > columns[1] / tracks.reconstruction[t].sum() + 1


@pytest.mark.parametrize(
    "frames, sentence",
    [
        (np.zeros([2, 50, 40]), r"a frame of shape \[50, 40, 1\]; the model was trained on \[50, 50, 1\]"),
        (np.zeros([2, 50, 50, 3]), r"a frame of shape \[50, 50, 3\]"),
        (np.zeros([50, 50]), r"a frame of shape \[50\]"),
        (np.zeros([2, 50, 50], int), "has type int64; uint8, or float"),
        (np.full([2, 50, 50], 255.0), r"values outside \[0, 1\]"),
        (np.full([2, 50, 50], np.nan), r"values outside \[0, 1\]"),
        ([], "holds no frame"),
    ],
)
def test_other_frames_are_refused(model, frames, sentence):
    with pytest.raises(UserError, match="`frames` .*" + sentence):
        model.track(frames)


def test_tracks_as_a_file_and_as_a_table(model, videos, tmp_path):
    model.reset()
    parts = [model.step(frame) for frame in videos.images[:2, 1]]
    parts[1].to_mot_csv(str(tmp_path / "x.csv"))
    lines = (tmp_path / "x.csv").read_text().splitlines()
    y, x, height, width = parts[1].tight_boxes[0, 0]
    cells = [float(cell) for cell in lines[0].split(",")]
    wanted = [
        2,
        parts[1].ids[0, 0] + 1,
        x + 1,
        y + 1,
        width,
        height,
        parts[1].presence_prob[0, 0],
        -1,
        -1,
        -1,
    ]
    np.testing.assert_allclose(cells, wanted, atol=0.01)
    table = tracker.join(parts).to_dataframe(tight=False)
    assert list(table.columns) == ["frame", "id", "y", "x", "height", "width", "presence_prob"]
    assert len(table) == sum(part.presence.sum() for part in parts) and set(table.frame) == {0, 1}
    np.testing.assert_allclose(
        table[table.frame == 1].iloc[0][["y", "x", "height", "width"]], parts[1].boxes[0, 0]
    )


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="flags.json cannot be read: .* is this the folder of a run"):
        Tracker.from_checkpoint(str(tmp_path))
    shutil.copy(os.path.join(MODEL, "flags.json"), str(tmp_path))
    with pytest.raises(UserError, match="name the folder of a run with a complete checkpoint"):
        Tracker.from_checkpoint(str(tmp_path))
