# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os

import numpy as np
import pytest
import stub_films

from sqair.data import own_videos
from sqair.data.frames import Framing
from sqair.data.own_videos import Options
from sqair.data.pipeline import SequenceDataset
from sqair.errors import UserError

WHOLE = Framing(size=(24, 40))  # of the stub's films: nothing is cropped or resized


def sequences(folder, split):
    return SequenceDataset(str(folder), split).first(100)


def numbered(tmp_path, lengths):
    """Arrays whose pixels of frame t of video v are 20 * v + t; their paths."""
    paths = []
    for v, length in enumerate(lengths):
        paths.append(str(tmp_path / f"{v}.npy"))
        np.save(paths[-1], np.tile(np.arange(length)[:, None, None] + 20 * v, (1, 6, 6)).astype(np.uint8))
    return paths


def frames_of(batch):
    """Number of each frame of `numbered` films, list of lists by sequence."""
    return np.rint(255 * batch.images[:, :, 0, 0, 0]).astype(int).T.tolist()


def test_films_become_sequences_with_boxes_around_their_objects(tmp_path):
    paths = stub_films.write(tmp_path, "a", "b")
    index = own_videos.create(str(tmp_path / "set"), paths, Options(seq_len=4, framing=WHOLE, truth=True))
    train, valid = sequences(tmp_path / "set", "train"), sequences(tmp_path / "set", "valid")
    assert train.images.shape == valid.images.shape == (4, 3, 24, 40, 1)
    assert train.boxes.shape == (4, 3, 1, 4) and train.labels.tolist() == [[3]] * 3
    assert np.all(train.presence == 1) and np.all(train.visible == 1)
    for t, b in np.ndindex(4, 3):
        y, x, height, width = train.boxes[t, b, 0].astype(int)
        inside = np.zeros((24, 40), bool)
        inside[y : y + height, x : x + width] = True
        assert (height, width) == (stub_films.SIDE,) * 2
        image = train.images[t, b, ..., 0]
        assert image[inside].mean() > 0.4 and np.mean(image[~inside]) < 0.02 and np.median(image) == 0
    lefts = sorted(train.boxes[0, :, 0, 1].tolist())
    assert lefts == [2, 10, 18] and np.all(np.diff(train.boxes[:, :, 0, 1], axis=0) == 2)
    for split, batch in (("train", train), ("valid", valid)):
        entry = index["splits"][split]
        assert entry["statistics"]["objects_per_frame"] == 1
        assert entry["statistics"]["mean_pixel"] == pytest.approx(batch.images.mean(), rel=1e-5)
        mean = SequenceDataset(str(tmp_path / "set"), split).mean_image()
        np.testing.assert_allclose(mean, batch.images.mean((0, 1)), atol=1e-6)
    assert sorted(index["splits"]["train"]["videos"] + index["splits"]["valid"]["videos"]) == paths
    assert json.dumps(index["options"])


def test_an_object_is_in_the_frames_that_show_it_and_in_no_other(tmp_path):
    paths = stub_films.write(tmp_path, "a", "b", num_frames=8)
    for path in paths:  # in the first three frames, then beyond the crop, then annotated no more
        rows = [f"{t},5,1,1,10,10\n" for t in (1, 2, 3)] + [
            "4,5,31,1,10,10\n5,5,1,15,10,10\n",
            "8,6,16,1,10,8\n",
        ]
        with open(path[:-4] + ".txt", "w") as file:
            file.write("".join(rows))
    framing = Framing(crop=(0, 0, 12, 20), size=(24, 40), background="none")
    own_videos.create(str(tmp_path / "set"), paths, Options(seq_len=8, framing=framing, truth=True))
    batch = sequences(tmp_path / "set", "valid")
    assert batch.presence[:, 0].tolist() == [[1, 0]] * 3 + [[0, 0]] * 4 + [[0, 1]]
    assert batch.boxes[0, 0, 0].tolist() == [0, 0, 20, 20] and not batch.boxes[3:7].any()
    assert batch.boxes[7, 0, 1].tolist() == [0, 30, 16, 20] and batch.visible[7, 0].tolist() == [0, 0.5]
    assert batch.labels.tolist() == [[0, 0]]


def test_steps_strides_and_sequences_that_hold_nothing_twice(tmp_path):
    paths = numbered(tmp_path, [17, 12])
    none = Framing(size=(6,), background="none")
    own_videos.create(str(tmp_path / "set"), paths, Options(3, stride=2, frame_step=2, framing=none))
    found = frames_of(sequences(tmp_path / "set", "train")) + frames_of(sequences(tmp_path / "set", "valid"))
    wanted = [[0, 2, 4], [4, 6, 8], [8, 10, 12], [12, 14, 16], [20, 22, 24], [24, 26, 28]]
    assert sorted(found) == wanted


def test_boxes_keep_step_with_the_frames(tmp_path):
    paths = stub_films.write(tmp_path, "a", "b")
    options = Options(6, frame_step=2, framing=WHOLE, truth=True)
    own_videos.create(str(tmp_path / "set"), paths, options)
    boxes = sequences(tmp_path / "set", "train").boxes
    assert boxes[:, 0, 0, 1].tolist() == [2, 6, 10, 14, 18, 22]


def test_of_one_video_the_end_is_for_validation_and_no_frame_for_both(tmp_path):
    (path,) = numbered(tmp_path, [60])
    options = Options(6, stride=2, framing=Framing(size=(6,), background="none"), valid_share=0.2)
    own_videos.create(str(tmp_path / "set"), [path], options)
    train, valid = (frames_of(sequences(tmp_path / "set", split)) for split in ("train", "valid"))
    assert len(valid) == 6 and min(map(min, valid)) == 44 and max(map(max, valid)) == 59
    assert max(map(max, train)) == 43 and sorted(train)[0] == list(range(6))


@pytest.mark.parametrize(
    "lengths, share", [([40] * 9, 0.3), ([40, 10, 10], 0.5), ([10, 10], 0.99), ([90] * 2, 1e-6)]
)
def test_videos_are_for_one_purpose_alone_and_the_seed_says_which(lengths, share):
    options, chosen = Options(10, valid_share=share), set()
    for seed in range(12):
        windows = own_videos.choose_windows(lengths, options, seed)
        assert windows == own_videos.choose_windows(lengths, options, seed)
        train, valid = ({video for video, _ in windows[split]} for split in own_videos.SPLITS)
        assert train and valid and not train & valid and len(train | valid) == len(lengths)
        total, largest = sum(lengths) // 10, max(lengths) // 10
        if share < 0.9:
            assert len(windows["valid"]) < share * total + largest
        chosen.add(tuple(sorted(valid)))
    assert len(chosen) > 1


def test_the_median_is_of_the_whole_film(tmp_path):
    film = np.full((300, 4, 4), 40, np.uint8)
    film[:110] = 200  # a third of the time something else
    np.save(str(tmp_path / "a.npy"), np.stack([film, film])[..., None])
    own_videos.create(
        str(tmp_path / "set"), [str(tmp_path / "a.npy")], Options(100, framing=Framing(size=(4,)))
    )
    images = sequences(tmp_path / "set", "valid").images
    assert images.mean() == pytest.approx(110 / 300 * 160 / 255, rel=1e-4)


def test_the_same_seed_makes_the_same_bytes_and_colour_has_three_channels(tmp_path):
    paths = stub_films.write(tmp_path, "a", "b")
    options = Options(4, framing=WHOLE._replace(colour=True))
    index = [own_videos.create(str(tmp_path / name), paths, options, seed=3) for name in ("one", "two")]
    assert index[0] == index[1] and index[0]["image_shape"] == [24, 40, 3] and index[0]["max_objects"] == 0
    batch = sequences(tmp_path / "one", "valid")
    assert batch.boxes.shape == (4, 3, 0, 4) and batch.presence.shape == (4, 3, 0)
    assert batch.images.max((0, 1, 2, 3)).tolist() == pytest.approx(
        [170 / 255, 140 / 255, 120 / 255], abs=0.05
    )


def test_whatever_is_wrong_is_said_in_a_sentence_and_leaves_nothing(tmp_path):
    a, b = stub_films.write(tmp_path, "a", "b")
    (other,) = stub_films.write(tmp_path, "other", size=(24, 60))
    np.save(str(tmp_path / "late.npy"), np.full((12, 24, 40), np.nan))
    (tmp_path / "late.txt").write_text("")
    np.save(str(tmp_path / "short.npy"), np.zeros((5, 24, 40), np.uint8))
    (tmp_path / "b.txt").write_text("99,1,1,1,2,2\n")
    cases = [
        ([], Options(), "No videos are given; name files or folders in `videos`"),
        (
            [a, str(tmp_path / "late.npy")],
            Options(4),
            "Frame 1 of .*late.npy' has values that are not finite",
        ),
        (
            [a, other],
            Options(4),
            r"other.mp4' become 50x125 pixels, but those of the first video 50x83; give `size`",
        ),
        (
            [str(tmp_path / "short.npy")],
            Options(),
            r"short.npy' has 5 frames, fewer than a sequence \(`seq_len=10`",
        ),
        ([a], Options(4, frame_step=4), "has 12 frames, of which `frame_step=4` takes 3, fewer"),
        ([a], Options(12), "A single video of 12 frames gives no sequences of 12 both"),
        ([b], Options(4, truth=True), r"b.txt' has frame 99, but its video ends with 12"),
        ([a, str(tmp_path / "none.mp4")], Options(4), "There is no video"),
        ([a], Options(0), "`seq_len=0` is refused"),
        ([a], Options(4, stride=-1), "`stride=-1` is refused"),
        ([a], Options(4, valid_share=1.0), "`valid_share=1.0` is refused"),
        ([a], Options(4, framing=Framing(gain=-1.0)), "`gain=-1.0` is refused"),
    ]
    for paths, options, sentence in cases:
        with pytest.raises(UserError, match=sentence):
            own_videos.create(str(tmp_path / "new" / "set"), paths, options)
        assert not (tmp_path / "new").exists() or os.listdir(str(tmp_path / "new")) == []
    with pytest.raises(UserError, match="`seed=-1` is refused"):
        own_videos.create(str(tmp_path / "set"), [a], Options(4), seed=-1)


def test_sequences_beyond_all_bounds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(own_videos, "_MAX_SEQUENCE_BYTES", 1000)
    with pytest.raises(
        UserError, match="Sequences of 4 frames of 24x40 are too large; lower `seq_len` or `size`"
    ):
        own_videos.create(str(tmp_path / "set"), stub_films.write(tmp_path, "a"), Options(4, framing=WHOLE))
