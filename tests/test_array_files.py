# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest

from sqair.data import array_files
from sqair.errors import UserError


def read(path):
    return [(name, np.stack(list(frames))) for name, frames in array_files.read_videos(str(path))]


@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 3, 5, 1), (4, 3, 5, 3), (2, 4, 3, 5, 3)])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_frames_are_those_of_the_array(tmp_path, shape, kind):
    array = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    path = str(tmp_path / f"a.{kind}")
    if kind == "npy":
        np.save(path, array)
    else:
        np.savez_compressed(path, labels=np.arange(3), images=array)
    found = read(path)
    assert [name for name, _ in found] == ([f"{path}[0]", f"{path}[1]"] if len(shape) == 5 else [path])
    channels = shape[-1] if len(shape) > 3 else 1
    np.testing.assert_array_equal(
        np.stack([frames for _, frames in found]), array.reshape(-1, 4, 3, 5, channels)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f8", bool])
def test_floats_are_brightness_from_0_to_1(tmp_path, dtype):
    values = np.array([0, 0.25, 0.5, 1]).astype(dtype).reshape(1, 2, 2)
    np.save(str(tmp_path / "a.npy"), values)
    ((_, frames),) = read(tmp_path / "a.npy")
    assert frames.ravel().tolist() == [int(round(255 * float(value))) for value in values.ravel()]


@pytest.mark.parametrize("value, shown", [(np.nan, "nan"), (1.5, "1.5"), (-0.1, "-0.1"), (np.inf, "inf")])
def test_values_that_are_no_brightness_are_refused(tmp_path, value, shown):
    values = np.zeros((3, 2, 2), np.float32)
    values[1, 0, 0] = value
    np.save(str(tmp_path / "a.npy"), values)
    with pytest.raises(UserError, match=f"Frame 2 of .* outside 0 to 1 .*{shown}"):
        read(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "array, sentence",
    [
        (np.zeros((4, 4), np.uint8), r"uint8 of shape \[4, 4\]; videos are \[T, H, W\]"),
        (np.zeros((2, 4, 4, 4), np.uint8), r"shape \[2, 4, 4, 4\]"),
        (np.zeros((0, 4, 4), np.uint8), r"shape \[0, 4, 4\]"),
        (np.zeros((2, 4, 4), np.int64), "holds int64"),
        (np.array([[["x"]]]), "holds <U1"),
        (np.array([[[{}]]]), "holds object"),
        (np.zeros((2, 3, 4), np.uint8, order="F"), "column by column"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, array, sentence):
    np.save(str(tmp_path / "a.npy"), array)
    with pytest.raises(UserError, match=sentence):
        read(tmp_path / "a.npy")


def test_damaged_files_are_refused(tmp_path):
    np.save(str(tmp_path / "whole.npy"), np.zeros((9, 50, 50), np.uint8))
    rng = np.random.RandomState(0)
    np.savez(str(tmp_path / "whole.npz"), rng.randint(0, 256, (9, 50, 50)).astype(np.uint8))
    npy, npz = (tmp_path / "whole.npy").read_bytes(), (tmp_path / "whole.npz").read_bytes()
    unclosed = npy.replace(b"(9, 50, 50), }", b"(9, 50, 50),  ")
    flipped = npz[:5000] + bytes([npz[5000] ^ 255]) + npz[5001:]
    for name, content in (
        ("a.npy", b""),
        ("a.npy", b"hello"),
        ("a.npy", npy[:60]),
        ("a.npy", npy[:-1]),
        ("a.npy", unclosed),
        ("a.npz", b"hello"),
        ("a.npz", npz[:-100]),
        ("a.npz", flipped),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}' is damaged or no file of arrays"):
            read(tmp_path / name)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read(tmp_path / "none.npy")


def test_frames_beyond_all_bounds_are_refused_before_they_are_read(tmp_path):
    with open(str(tmp_path / "a.npy"), "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (2, 10**6, 10**6)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(UserError, match="too large"):
        read(tmp_path / "a.npy")


def test_of_several_arrays_one_has_to_be_named(tmp_path):
    np.savez(str(tmp_path / "a.npz"), one=np.zeros(1), two=np.zeros(1))
    with pytest.raises(
        UserError, match=r"holds 2 arrays \(one, two\); save the videos as the one called 'images'"
    ):
        read(tmp_path / "a.npz")
