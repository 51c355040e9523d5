# SPDX-License-Identifier: GPL-3.0-or-later
"""Models from servers on this machine: whole or not at all, and on from where a download stopped."""

import contextlib
import fcntl
import hashlib
import json
import os
import resource

import pytest
from script_run import run_script
from stub_archives import MODEL, content_of, write_archive, write_model
from stub_server import FileHandler, serving

from sqair.data import download, model_downloads
from sqair.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIG = dict(MODEL, **{"checkpoints/model-7.data-00000-of-00001": bytes(range(256)) * 400})


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server that has an archive and its manifest."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "STALL_SECONDS", 0.3)
    out_dir = tmp_path / "archives"
    model_downloads.publish(write_model(tmp_path / "tiny", BIG), str(out_dir))
    with serving(FileHandler) as server:
        server.files = {name: (out_dir / name).read_bytes() for name in ("tiny.zip", "manifest.json")}
        yield server


def entry(server, kind="good"):
    content = server.files["tiny.zip"]
    address = f"{server.address}/{kind}/tiny.zip"
    return model_downloads.Entry("tiny", address, len(content), hashlib.sha256(content).hexdigest())


@contextlib.contextmanager
def no_progress(total, initial):
    class Bar:
        update = staticmethod(lambda num_bytes: None)

    yield Bar


def fetch(entry, tmp_path, timeout=5, progress=no_progress):
    return model_downloads.fetch(entry, str(tmp_path / "models"), timeout, progress)


def refused(call, *arguments, **options):
    """The sentence that a call is refused with."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    sentence = str(caught.value)
    assert sentence.isprintable() and sentence.endswith(".")
    return sentence


def in_models(tmp_path):
    return sorted(os.listdir(str(tmp_path / "models")))


def test_a_model_that_was_published_is_downloaded(server, tmp_path):
    (found,) = model_downloads.read_manifest(f"{server.address}/good/manifest.json")
    assert found == entry(server)
    seen = []

    @contextlib.contextmanager
    def progress(total, initial):
        seen.append((total, initial))

        class Bar:
            update = seen.append

        yield Bar

    folder, is_new = fetch(found, tmp_path, progress=progress)
    assert folder == str(tmp_path / "models" / "tiny") and is_new
    assert content_of(tmp_path / "models" / "tiny") == BIG
    assert in_models(tmp_path) == ["tiny"]
    assert seen[0] == (found.size, 0) and sum(seen[1:]) == found.size


def test_what_is_there_stays_as_it_is(server, tmp_path):
    write_model(tmp_path / "models" / "tiny", {"flags.json": b"mine"})
    assert fetch(entry(server), tmp_path) == (str(tmp_path / "models" / "tiny"), False)
    assert content_of(tmp_path / "models" / "tiny") == {"flags.json": b"mine"}
    (tmp_path / "models" / "tiny" / "flags.json").rename(tmp_path / "models" / "tiny" / "thesis.tex")
    assert "is in use already; name another one, or remove it" in refused(fetch, entry(server), tmp_path)
    assert content_of(tmp_path / "models" / "tiny") == {"thesis.tex": b"mine"}
    assert not server.asked


@pytest.mark.parametrize("kind", ["cut", "stalled"])
@pytest.mark.parametrize("again", ["good", "rangeless"])
def test_a_download_goes_on_where_it_stopped(server, tmp_path, kind, again):
    size = len(server.files["tiny.zip"])
    sentence = refused(fetch, entry(server, kind), tmp_path)
    assert f"run this again to go on after the {size // 3} of {size} bytes that are kept in" in sentence
    assert f"Model tiny was not downloaded: {server.address}/{kind}/tiny.zip " in sentence
    (partial,) = in_models(tmp_path)
    assert (tmp_path / "models" / partial).read_bytes() == server.files["tiny.zip"][: size // 3]

    seen = []

    @contextlib.contextmanager
    def progress(total, initial):
        seen.append((total, initial))
        with no_progress(total, initial) as bar:
            yield bar

    fetch(entry(server, again), tmp_path, progress=progress)
    assert server.asked[-1] == (f"/{again}/tiny.zip", f"bytes={size // 3}-")
    assert seen == [(size, size // 3)]
    assert content_of(tmp_path / "models" / "tiny") == BIG and in_models(tmp_path) == ["tiny"]


@pytest.mark.parametrize(
    "kind", ["page", "longer", "shifted", "missing", "elsewhere", "rude", "headers", "cut"]
)
def test_what_has_arrived_survives_a_server_that_lies(server, tmp_path, kind):
    refused(fetch, entry(server, "cut"), tmp_path)
    (partial,) = in_models(tmp_path)
    kept = (tmp_path / "models" / partial).read_bytes()
    sentence = refused(fetch, entry(server, kind), tmp_path, timeout=0.3)
    assert f"the {len(kept)} of" in sentence
    assert (tmp_path / "models" / partial).read_bytes() == kept
    fetch(entry(server), tmp_path)


@pytest.mark.parametrize("kind", ["page", "longer", "missing", "silent"])
def test_nothing_is_left_of_nothing(server, tmp_path, kind):
    assert "check the network and the manifest" in refused(fetch, entry(server, kind), tmp_path)
    assert in_models(tmp_path) == []


def test_wrong_bytes_are_not_kept(server, tmp_path):
    sentence = refused(fetch, entry(server, "wrong"), tmp_path)
    assert "sent other bytes than the manifest lists" in sentence and "SHA-256" in sentence
    assert in_models(tmp_path) == []
    refused(fetch, entry(server, "cut"), tmp_path)
    (partial,) = in_models(tmp_path)
    (tmp_path / "models" / partial).write_bytes(bytes(10_000))
    refused(fetch, entry(server), tmp_path)
    assert in_models(tmp_path) == []
    assert fetch(entry(server), tmp_path)[1]


def test_a_download_that_was_complete_needs_no_server(server, tmp_path):
    refused(fetch, entry(server, "cut"), tmp_path)
    (partial,) = in_models(tmp_path)
    (tmp_path / "models" / partial).write_bytes(server.files["tiny.zip"])
    assert fetch(entry(server, "missing"), tmp_path)[1] and len(server.asked) == 1


def test_a_folder_that_appears_meanwhile_stays(server, tmp_path):
    @contextlib.contextmanager
    def progress(total, initial):
        write_model(tmp_path / "models" / "tiny", {"thesis.tex": b"mine"})
        with no_progress(total, initial) as bar:
            yield bar

    assert "is in use already" in refused(fetch, entry(server), tmp_path, progress=progress)
    assert content_of(tmp_path / "models" / "tiny") == {"thesis.tex": b"mine"}


def test_more_than_the_archive_is_not_kept(server, tmp_path):
    refused(fetch, entry(server, "cut"), tmp_path)
    (partial,) = in_models(tmp_path)
    (tmp_path / "models" / partial).write_bytes(server.files["tiny.zip"] + b"x")
    assert "SHA-256" in refused(fetch, entry(server), tmp_path) and in_models(tmp_path) == []


def test_a_hostile_archive_is_not_unpacked(server, tmp_path):
    write_archive(tmp_path / "tiny.zip", [("../evil", b"x")])
    server.files["tiny.zip"] = (tmp_path / "tiny.zip").read_bytes()
    assert "holds '../evil', which is no plain name" in refused(fetch, entry(server), tmp_path)
    assert in_models(tmp_path) == [] and not (tmp_path / "evil").exists()


def test_one_download_at_a_time(server, tmp_path):
    refused(fetch, entry(server, "cut"), tmp_path)
    (partial,) = in_models(tmp_path)
    with open(str(tmp_path / "models" / partial)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "is being downloaded by another process" in refused(fetch, entry(server), tmp_path)
    assert fetch(entry(server), tmp_path)[1]


def test_a_full_disk_is_named(server, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        assert "cannot be written: File too large" in refused(fetch, entry(server), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert fetch(entry(server), tmp_path)[1]
    (tmp_path / "file").write_text("")
    sentence = refused(model_downloads.fetch, entry(server), str(tmp_path / "file" / "x"), 5, no_progress)
    assert "cannot be written: Not a directory" in sentence


GOOD = {"name": "tiny", "address": "a/tiny.zip", "size": 5, "sha256": "0" * 64}
BROKEN = {
    "no JSON": b"<html>",
    "no text": b"\xff\xfe",
    "nothing": b"",
    "a list": b"[]",
    "a number": b"5",
    "no models": b"{}",
    "models by name": b'{"models": {}}',
    "depth": b"[" * 100_000,
    "length": b" " * 300_000,
    "a text": {"models": ["tiny"]},
    "a name twice": {"models": [GOOD, GOOD]},
    "a path": {"models": [dict(GOOD, name="../tiny")]},
    "a hidden folder": {"models": [dict(GOOD, name=".")]},
    "a number as name": {"models": [dict(GOOD, name=5)]},
    "two lines": {"models": [dict(GOOD, address="http://a\nb")]},
    "no address": {"models": [dict(GOOD, address=None)]},
    "no bytes": {"models": [dict(GOOD, size=0)]},
    "half a byte": {"models": [dict(GOOD, size=0.5)]},
    "true bytes": {"models": [dict(GOOD, size=True)]},
    "no number": b'{"models": [{"name": "a", "address": "b", "size": NaN}]}',
    "endless bytes": {"models": [dict(GOOD, size=10**40)]},
    "a short digest": {"models": [dict(GOOD, sha256="00")]},
}


@pytest.mark.parametrize("what", sorted(BROKEN))
def test_a_broken_manifest(what, tmp_path):
    content = BROKEN[what]
    path = tmp_path / "manifest.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    sentence = refused(model_downloads.read_manifest, str(path))
    assert str(path) in sentence and "`manifest`" in sentence and len(sentence) < 350


def test_a_manifest_that_is_not_there(server, tmp_path):
    for source in (tmp_path / "none", tmp_path, f"{server.address}/missing/x", "ftp://x/y", "http://["):
        sentence = refused(model_downloads.read_manifest, str(source))
        assert sentence.startswith(f"Manifest {source} ")


def test_addresses_are_relative_to_the_manifest_s_own(server, tmp_path):
    for address, wanted in (
        ("tiny.zip", f"{server.address}/good/tiny.zip"),
        ("https://other/tiny.zip", "https://other/tiny.zip"),
    ):
        content = json.dumps({"models": [dict(GOOD, address=address)]}).encode()
        server.files["manifest.json"] = content
        (found,) = model_downloads.read_manifest(f"{server.address}/good/manifest.json")
        assert found.address == wanted
        (tmp_path / "manifest.json").write_bytes(content)
        assert model_downloads.read_manifest(str(tmp_path / "manifest.json"))[0].address == address
    (tmp_path / "manifest.json").write_text(json.dumps({"models": [GOOD]}))
    (found,) = model_downloads.read_manifest(str(tmp_path / "manifest.json"))
    assert "a/tiny.zip is not an http or https address; check" in refused(fetch, found, tmp_path)


def test_models_are_chosen_by_name():
    entries = [model_downloads.Entry(name, "http://a", 1, "0" * 64) for name in ("a", "b", "c")]
    names = lambda chosen: [entry.name for entry in chosen]  # noqa: E731
    assert names(model_downloads.choose(entries, [], "m")) == ["a", "b", "c"]
    assert names(model_downloads.choose(entries, ["c", "a", "c"], "m")) == ["c", "a"]
    assert refused(model_downloads.choose, entries, ["d"], "m") == "`models=d` is refused: m lists a, b, c."
    assert "m lists no model" in refused(model_downloads.choose, [], [], "m")


def test_models_are_added_to_a_manifest(tmp_path):
    out_dir = str(tmp_path / "out")
    first = model_downloads.publish(write_model(tmp_path / "first"), out_dir)
    second = model_downloads.publish(write_model(tmp_path / "second"), out_dir, "https://host/models/")
    assert second.address == "https://host/models/second.zip" and first.address == "first.zip"
    sentence = refused(model_downloads.publish, str(tmp_path / "first"), out_dir)
    assert "first.zip exists already" in sentence
    os.remove(os.path.join(out_dir, "first.zip"))
    write_model(tmp_path / "first", {"README.md": b"changed"})
    changed = model_downloads.publish(str(tmp_path / "first"), out_dir)
    assert changed.sha256 != first.sha256
    assert model_downloads.read_manifest(os.path.join(out_dir, "manifest.json")) == [second, changed]
    assert sorted(os.listdir(out_dir)) == ["first.zip", "manifest.json", "second.zip"]


def test_what_cannot_be_published(tmp_path):
    out_dir = str(tmp_path / "out")
    assert "'my model'" in refused(model_downloads.publish, write_model(tmp_path / "my model"), out_dir)
    folder = write_model(tmp_path / "model")
    assert "is refused" in refused(model_downloads.publish, folder, out_dir, "http://a b")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("")
    assert "cannot be written" in refused(model_downloads.publish, folder, out_dir)


def test_the_manifest_that_comes_along_is_one():
    model_downloads.read_manifest(os.path.join(ROOT, "models", "manifest.json"))


@pytest.mark.slow
def test_the_scripts(server, tmp_path):
    status, out, err = run_script(
        "pack_model.py", f"--model={write_model(tmp_path / 'other')}", f"--out_dir={tmp_path}/out"
    )
    assert (status, err) == (0, "") and out.startswith("Packed other: ") and "listed in" in out
    for name in ("other.zip", "manifest.json"):
        server.files[name] = (tmp_path / "out" / name).read_bytes()
    manifest, models_dir = f"{server.address}/good/manifest.json", f"{tmp_path}/models"
    call = ("download_models.sh", f"--manifest={manifest}", f"--models_dir={models_dir}")
    assert run_script(*call, "--models=none") == (
        2,
        "",
        f"--models=none is refused: {manifest} lists other.\n",
    )
    assert run_script(*call) == (0, f"Downloaded {models_dir}/other.\n", "")
    assert run_script(*call) == (0, f"{models_dir}/other is there already and stays as it is.\n", "")
    assert content_of(tmp_path / "models" / "other") == MODEL
