# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of models: back as they were, the same bytes again, and nothing unpacked of a hostile one."""

import hashlib
import os
import random
import shutil
import stat
import struct
import warnings
import zipfile

import pytest
from stub_archives import MODEL, content_of, member, write_archive, write_model

from sqair.data import archives
from sqair.errors import UserError


def pack(tmp_path, name="model.zip", files=MODEL):
    path = tmp_path / name
    archives.pack(write_model(tmp_path / "model", files), str(path))
    return path


def unpack(path, tmp_path):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    archives.unpack(str(path), str(folder))
    return content_of(folder)


def test_what_was_packed_is_unpacked(tmp_path):
    path = pack(tmp_path)
    assert unpack(path, tmp_path) == MODEL
    assert os.listdir(str(tmp_path / "unpacked" / "checkpoints"))
    assert all(os.stat(str(file)).st_mode & 0o111 == 0 for file in (tmp_path / "unpacked").glob("*.*"))


def test_the_same_files_give_the_same_bytes(tmp_path):
    first = pack(tmp_path)
    shutil.rmtree(str(tmp_path / "model"))
    later = pack(tmp_path, "later.zip", dict(reversed(list(MODEL.items()))))
    os.utime(str(tmp_path / "model" / "flags.json"), (1, 1))
    (tmp_path / "model" / "flags.json").chmod(0o600)
    archives.pack(str(tmp_path / "model"), str(tmp_path / "third.zip"))
    contents = [path.read_bytes() for path in (first, later, tmp_path / "third.zip")]
    assert contents[0] == contents[1] == contents[2]
    assert (
        hashlib.sha256(contents[0]).hexdigest()
        == "9e2e243df2570d20c4a839b2e36b429c295aba8cb52ff2c873a5de8f88c12c56"
    )


def test_hidden_files_stay_out(tmp_path):
    path = pack(tmp_path, files=dict(MODEL, **{".lock": b"", ".cache/x": b"", "figures/.hidden": b""}))
    assert unpack(path, tmp_path) == MODEL


@pytest.mark.parametrize("name", ["flags.json", "checkpoints/model-7.index"])
def test_what_is_no_model_is_not_packed(tmp_path, name):
    files = {other: content for other, content in MODEL.items() if other != name}
    with pytest.raises(UserError, match=r"model' holds no model \(flags.json and a checkpoint"):
        pack(tmp_path, files=files)
    assert not (tmp_path / "model.zip").exists()


def test_links_and_odd_names_are_not_packed(tmp_path):
    folder = write_model(tmp_path / "model")
    for link, target in (("data", "/etc"), ("passwd", "/etc/passwd"), ("nothing", "/nowhere")):
        os.symlink(target, os.path.join(folder, link))
        with pytest.raises(UserError, match=f"model/{link} is neither a file nor a folder"):
            archives.pack(folder, str(tmp_path / "x.zip"))
        os.remove(os.path.join(folder, link))
    (tmp_path / "model" / "my notes").write_text("x")
    with pytest.raises(UserError, match="'my notes', which is no plain name"):
        archives.pack(folder, str(tmp_path / "x.zip"))
    with pytest.raises(UserError, match=r"none' cannot be read: No such file"):
        archives.pack(str(tmp_path / "none"), str(tmp_path / "x.zip"))
    assert os.listdir(str(tmp_path)) == ["model"]


HOSTILE = {
    "a path above": [("../evil", b"x")],
    "a path above, below": [("checkpoints/../../evil", b"x")],
    "an absolute path": [("/tmp/evil", b"x")],
    "a drive": [("C:evil", b"x")],
    "a backslash": [("..\\evil", b"x")],
    "a hidden file": [(".bashrc", b"x")],
    "this folder": [("./flags.json2", b"x")],
    "an empty part": [("checkpoints//x", b"x")],
    "a folder": [("checkpoints/", b"")],
    "a line break": [("a\nb", b"x")],
    "other letters": [("\u0430", b"x")],
    "a long name": [("a/" * 100 + "b", b"x")],
    "a link": [(member("link", stat.S_IFLNK | 0o777), b"/etc/passwd")],
    "a device": [(member("device", stat.S_IFCHR | 0o666), b"")],
    "a pipe": [(member("pipe", stat.S_IFIFO | 0o666), b"")],
    "compression": [(member("x", compression=zipfile.ZIP_DEFLATED), bytes(1000))],
    "many files": [(f"f{i}", b"") for i in range(1000)],
    "a file and folder of one name": [("checkpoints", b"x")],
    "a name twice": [("x", b"1"), ("x", b"2")],
    "no flags": [("flags.json", None)],
    "no checkpoint": [("checkpoints/model-7.index", None)],
}


@pytest.mark.parametrize("what", sorted(HOSTILE))
def test_nothing_is_unpacked_of_an_archive_with(what, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of names that come twice
        path = write_archive(tmp_path / "x.zip", HOSTILE[what])
    before = sorted(os.listdir(str(tmp_path)))
    with pytest.raises(ValueError, match="^holds ") as refused:
        unpack(path, tmp_path)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300
    assert not os.listdir(str(tmp_path / "unpacked"))
    assert sorted(os.listdir(str(tmp_path))) == sorted([*before, "unpacked"])


def central_entries(content):
    """Where the entries of a zip file's directory begin."""
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        yield at
        at = content.find(b"PK\x01\x02", at + 1)


def test_files_that_share_their_bytes_do_not_make_a_bomb(tmp_path):
    """Each entry of the directory points to the same large file."""
    path = pack(tmp_path, files=dict(MODEL, **{f"f{i}": bytes(5000 * (i == 0)) for i in range(20)}))
    content = bytearray(path.read_bytes())
    large = next(at for at in central_entries(content) if content[at + 46 : at + 48] == b"f0")
    for at in central_entries(content):
        if content[at + 46 : at + 47] == b"f":
            content[at + 16 : at + 28] = content[large + 16 : large + 28]  # checksum and sizes
            content[at + 42 : at + 46] = content[large + 42 : large + 46]  # where its bytes are
    path.write_bytes(content)
    with pytest.raises(ValueError, match="would unpack to more than its own size"):
        unpack(path, tmp_path)
    assert not os.listdir(str(tmp_path / "unpacked"))


def test_sizes_that_lie(tmp_path):
    path = pack(tmp_path)
    content = bytearray(path.read_bytes())
    at = next(at for at in central_entries(content) if content[at + 46 :].startswith(b"flags.json"))
    content[at + 24 : at + 28] = struct.pack("<I", 1 << 30)  # unpacked
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"holds flags\.json compressed"):
        unpack(path, tmp_path)


def test_compression_that_gains_nothing(tmp_path):
    path = pack(tmp_path)
    content = bytearray(path.read_bytes())
    at = next(central_entries(content))
    content[at + 10] = zipfile.ZIP_DEFLATED
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"holds README\.md compressed"):
        unpack(path, tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"<html>", bytes(1000)])
def test_what_is_no_archive(content, tmp_path):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged or no zip file|holds no model"):
        unpack(tmp_path / "x.zip", tmp_path)


def test_damage_anywhere_is_refused_or_harmless(tmp_path):
    content = pack(tmp_path).read_bytes()
    rng = random.Random(0)
    interesting = [i for at in central_entries(content) for i in range(at, at + 46)] + list(
        range(len(content))
    )
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 3))):
            damaged[rng.choice(interesting)] = rng.randrange(256)
        (tmp_path / "x.zip").write_bytes(damaged[: rng.choice((len(content), rng.randrange(len(content))))])
        try:
            found = unpack(tmp_path / "x.zip", tmp_path)
        except ValueError as refused:
            assert "\n" not in str(refused)
        else:
            assert sorted(found.values()) == sorted(MODEL.values())
        shutil.rmtree(str(tmp_path / "unpacked"))
        assert sorted(os.listdir(str(tmp_path))) == ["model", "model.zip", "x.zip"]
