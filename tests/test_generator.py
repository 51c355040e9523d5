# SPDX-License-Identifier: GPL-3.0-or-later
"""The model in the box imagines videos: its prior's counts, futures of digits, seeds, refusals, files."""

import os

import numpy as np
import pytest

from sqair.data import mnist, moving_mnist
from sqair.errors import UserError
from sqair.evaluation import generator
from sqair.evaluation.generator import Generator

MODEL = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "models", "mlp_sqair")
T, B, SEEN, LATER = 10, 6, 4, 5


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("data") / "set")
    options = moving_mnist.Options(num_digits=(1, 2))
    moving_mnist.create(folder, mnist.load_bundle(), options, 1, B, num_workers=1)
    return folder


@pytest.fixture(scope="module")
def model():
    found = Generator.from_checkpoint(MODEL)
    yield found
    found.close()


@pytest.fixture(scope="module")
def videos(data_dir):
    return generator.read_videos(data_dir, B, T)


@pytest.fixture(scope="module")
def samples(model):
    return model.sample(80, 6, seed=3)


@pytest.fixture(scope="module")
def futures(model, videos):
    return model.continue_video(videos[0][:SEEN], LATER, num_futures=3, seed=2)


def assert_same(actual, expected):
    for name, a, b in zip(actual._fields, actual, expected):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3, err_msg=name)


def first(videos, count, frames=None):
    arrays = [x[:frames, :count] for x in videos[:-1]]
    return type(videos)(*arrays, videos.num_observed)


def test_samples_are_like_what_it_was_trained_on(samples):
    """None, one or two digits, equally often, which are drawn and mostly stay; few appear later."""
    assert samples.num_observed == 0 and samples.reconstruction.shape == (6, 80, 50, 50, 1)
    counts = samples.presence.sum(-1)
    shares = np.bincount(counts[0], minlength=4) / 80
    assert np.all(shares[:3] > 0.2) and shares[3] < 0.1
    assert samples.ids.max() <= 3 and (samples.ids.max((0, 2)) >= counts[0]).mean() < 0.1
    assert 0.6 * counts[0].mean() < counts[-1].mean() < counts[0].mean()
    np.testing.assert_array_equal(samples.presence, samples.ids >= 0)
    brightness = samples.reconstruction.sum((2, 3, 4))
    assert np.all(brightness[counts == 0] < 1) and np.median(brightness[counts == 1]) > 20
    assert samples.reconstruction.min() >= 0 and samples.reconstruction.max() <= 1
    for field in (samples.what, samples.where, samples.glimpses):
        assert not field[~samples.presence].any()


def test_what_moves_moves_from_where_it_was(samples):
    """By less, from frame to frame, than samples are apart."""
    stay = samples.presence[:-1, :, 0] & (samples.ids[:-1, :, 0] == samples.ids[1:, :, 0])
    middle = samples.boxes[..., 0, :2] + samples.boxes[..., 0, 2:] / 2
    moved = np.linalg.norm(np.diff(middle, axis=0), axis=-1)[stay]
    apart = np.linalg.norm(middle[0, :-1] - middle[0, 1:], axis=-1)[
        samples.presence[0, :-1, 0] & samples.presence[0, 1:, 0]
    ]
    assert stay.sum() > 50 and np.median(moved) < 0.7 * np.median(apart)


def test_a_video_goes_on_with_its_objects(model, videos):
    """What is observed is reconstructed, the same for all futures; then ids stay, near where they were."""
    kept = []
    for video in videos:
        found = model.continue_video(video[:SEEN], LATER, num_futures=2)
        assert found.num_observed == SEEN and found.reconstruction.shape == (SEEN + LATER, 2, 50, 50, 1)
        assert not found.what[~found.presence].any() and not found.where[~found.presence].any()
        seen = found.reconstruction[:SEEN]
        np.testing.assert_array_equal(seen[:, 0], seen[:, 1])
        assert np.mean((seen[:, 0] - video[:SEEN]) ** 2) < 0.5 * np.mean(video[:SEEN] ** 2)
        assert np.abs(found.what[SEEN:, 0] - found.what[SEEN:, 1]).max() > 0.1
        before, after = found.ids[SEEN - 1], found.ids[SEEN]
        for b in range(2):
            for n in np.flatnonzero(before[b] >= 0):
                (now,) = np.nonzero(after[b] == before[b, n])
                kept.append(len(now))
                for m in now:
                    assert np.all(np.abs(found.boxes[SEEN, b, m] - found.boxes[SEEN - 1, b, n]) < 25)
            new = after[b][after[b] >= 0]
            assert all(i in before[b] or i > found.ids[:SEEN, b].max() for i in new)
    assert len(kept) > 12 and np.mean(kept) > 0.8


def test_the_seed_fixes_each_video_by_itself(model, videos, samples, futures, monkeypatch):
    monkeypatch.setattr(generator, "_AT_ONCE", 3)
    assert_same(model.sample(7, 6, seed=3), first(samples, 7))
    assert_same(model.continue_video(videos[0][:SEEN], LATER, 2, 2), first(futures, 2))
    later = model.continue_video(videos[0][:SEEN], LATER, 1, 2, first_future=2)
    for a, b in zip(later[:-1], futures[:-1]):
        np.testing.assert_allclose(a[:, 0], b[:, 2], rtol=1e-3, atol=2e-3)
    assert np.abs(model.sample(7, 6, seed=4).what - samples.what[:, :7]).max() > 0.5


@pytest.mark.slow
def test_each_future_may_have_a_posterior_sample_of_its_own(videos, futures):
    sampler = Generator.from_checkpoint(MODEL, sample_posterior=True)
    found = sampler.continue_video(videos[0][:SEEN], LATER, num_futures=3, seed=2)
    sampler.close()
    assert np.abs(found.what[0, 0] - found.what[0, 1]).max() > 0.01
    np.testing.assert_array_equal(found.ids[0], futures.ids[0])
    assert np.abs(found.boxes[0] - futures.boxes[0]).max() < 10


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ((0, 5), "`num_sequences=0` is refused: it takes 1 to"),
        ((3, 0), "`num_frames=0` is refused"),
        ((3, 2**31), "`num_frames=2147483648` is refused"),
        ((3, 5, -1), "`seed=-1` is refused: it takes 0 to 2147483647"),
        ((100000, 1000), r"`num_sequences=100000` is refused: with 1000 frames each they take .* GiB"),
    ],
)
def test_what_cannot_be_is_refused(model, arguments, sentence):
    with pytest.raises(UserError, match="^" + sentence):
        model.sample(*arguments)


def test_frames_that_do_not_fit_are_refused(model):
    for frames, sentence in (([], "holds no frame"), (np.zeros((2, 9, 9)), r"a frame of shape \[9, 9, 1\]")):
        with pytest.raises(UserError, match="^`frames` .*" + sentence):
            model.continue_video(frames, 3)
    with pytest.raises(UserError, match="^`num_futures=0` is refused"):
        model.continue_video(np.zeros((1, 50, 50)), 3, num_futures=0)


def test_videos_in_a_file(futures, tmp_path):
    path = str(tmp_path / "x.npz")
    futures.to_npz(path)
    with np.load(path) as stored:
        assert set(stored.files) == set(futures._fields)
        for name, value in futures._asdict().items():
            np.testing.assert_array_equal(stored[name], value)
    with pytest.raises(UserError, match="nowhere/x.npz cannot be written"):
        futures.to_npz(str(tmp_path / "nowhere" / "x.npz"))


def test_videos_are_read_from_a_data_set_and_from_arrays(data_dir, videos, tmp_path):
    assert len(videos) == B and videos[0].shape == (T, 50, 50, 1)
    (short,) = generator.read_videos(data_dir, 1, 3)
    np.testing.assert_array_equal(short, videos[0][:3])
    path = str(tmp_path / "x.npy")
    np.save(path, np.round(255 * np.stack(videos)).astype(np.uint8))
    for a, b in zip(generator.read_videos(path, 2, 3), videos):
        np.testing.assert_allclose(a / 255, b[:3], atol=1e-6)
    for source in (path, data_dir):
        with pytest.raises(UserError, match=f"`num_sequences=7` is refused: '{source}' has 6"):
            generator.read_videos(source, 7, 3)
    with pytest.raises(UserError, match="nowhere"):
        generator.read_videos(str(tmp_path / "nowhere"), 1, 3)
