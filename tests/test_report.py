# SPDX-License-Identifier: GPL-3.0-or-later
import base64
import html
import io
import json
import re
from html.parser import HTMLParser

import browser
import numpy as np
import pytest
import stub_evaluation
from PIL import Image

from sqair.errors import UserError
from sqair.evaluation import report
from sqair.evaluation.quantities import TITLES

HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
TRAINING = [
    dict(step=100, normalised_iwae=400.0, num_step_acc=0.5),
    dict(step=2000, normalised_iwae=500.0, num_step_acc=0.75),
]


def png(width=1000):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((30, width, 3), np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def sections(caption="Sequence 5"):
    return [report.Section("Badly explained", "The lowest.", [report.Strip(png(), caption)])]


class Page(HTMLParser):
    """Tags with their attributes, in order, and the text of each cell."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data + " "

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_every_number_is_there_with_its_error():
    page = Page(report.render(stub_evaluation.entry(), "mine", sections(), TRAINING))
    text = " ".join(page.text.split())
    assert "The IWAE bound is 100.0 ± 0.2 nats per frame, 400 ± 1 per sequence" in text
    for i, (title, unit) in enumerate(TITLES.values()):
        assert f"{title} {unit} {100 + i} 0.25 {99.5 + i} {100.5 + i}" in text
    assert "IWAE bound nats per sequence 400 1 99.5 400" in text
    for shown in (
        "model-7",
        "valid, digest d456",
        "1,234",
        "w123",
        "MOTA 10 20 30 40",
        "mostly lost 18 28 38 48",
    ):
        assert shown in text
    for shown in (
        "true found 0 found 1 0 3,000 11 1 12 13",
        "0 21 22 1 23 24",
        "FG-ARI undefined",
        "first 99 seq",
    ):
        assert shown in text
    assert "Training" in text and "Badly explained The lowest. Sequence 5" in text


def test_it_is_whole_in_itself_and_runs_nothing():
    text = report.render(stub_evaluation.entry(), "mine", sections(), TRAINING)
    page = Page(text)
    assert not re.search(r"https?:|url\(|@import|src=\"(?!data:)|href", text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "form", "a"})
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    pictures = page.all("img")
    assert len(pictures) == 4 + 2 + 1 and all(len(picture["alt"]) > 20 for picture in pictures)
    for picture in pictures:
        head, content = picture["src"].split(",")
        assert head == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(content))).verify()
    assert "IWAE bound from 99.5 to 100.5" in pictures[0]["alt"]
    assert "from 400 after 100 updates to 500 after 2,000" in pictures[4]["alt"]
    assert page.all("html") == [{"lang": "en"}] and "default-src 'none'" in text
    assert all("scope" in attributes for attributes in page.all("th"))


def test_what_others_wrote_is_text():
    entry = dict(stub_evaluation.entry(), checkpoint=HOSTILE, split=HOSTILE, weights=HOSTILE)
    text = report.render(entry, HOSTILE, sections(HOSTILE))
    assert "<script" not in text and "<title>&lt;script&gt;" in text
    page = Page(text)
    assert page.text.count(HOSTILE) >= 5 and "script" not in {tag for tag, _ in page.tags}
    assert page.all("img")[-1]["alt"].endswith(HOSTILE)


def test_what_is_not_known_is_left_out_or_said():
    entry = dict(stub_evaluation.entry(), objects=None, step=None)
    for estimate in entry["estimates"].values():
        estimate.update(standard_error=None, by_frame_error=[None] * stub_evaluation.FRAMES)
    entry["estimates"]["mse"]["mean"] = None
    text = " ".join(Page(report.render(entry, "mine")).text.split())
    assert "Tracking" not in text and "Training" not in text and "updates unknown" in text
    assert "±" not in text and "squared error mean over pixels undefined undefined" in text


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry.pop("confusion"),
        lambda entry: entry["estimates"].pop("kl"),
        lambda entry: entry["estimates"]["kl"].update(by_frame=[]),
        lambda entry: entry["estimates"]["kl"].update(mean="many"),
        lambda entry: entry.update(estimates=[]),
        lambda entry: entry.update(frames="x"),
        lambda entry: entry.update(frames=9),
        lambda entry: entry.update(confusion=[[None]]),
        lambda entry: entry.update(visible_confusion=[]),
        lambda entry: entry.update(objects={"tight": 1}),
    ],
)
def test_a_damaged_evaluation_is_reported(damage):
    entry = stub_evaluation.entry()
    damage(entry)
    with pytest.raises(
        UserError, match="The evaluation of 'model-7' is damaged .* evaluation.json and evaluate anew"
    ):
        report.render(entry, "mine")


def test_what_is_not_annotated_is_not_judged():
    entry = stub_evaluation.entry()
    for name in ("num_step_acc", "visible_step_acc"):
        del entry["estimates"][name]
    entry.update(confusion=[], visible_confusion=[], objects=None)
    page = report.render(entry, "mine")
    assert "no objects are annotated to count" in page and "right count" not in page
    for name in ("num_steps", "num_disc_steps", "num_prop_steps"):
        del entry["estimates"][name]
    page = report.render(entry, "mine")
    assert "per sequence; it counts no objects" in page and "discoveries" not in page


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1200])
def test_in_a_browser_all_is_shown_and_nothing_overflows(tmp_path, width):
    """The report stands in a frame of this width; the page around it measures it."""
    entry = dict(stub_evaluation.entry(), weights="w" * 200)
    text = report.render(entry, "runs/" + "long" * 50, sections(), TRAINING)
    measure = """
        const frame = document.querySelector("iframe");
        const inner = frame.contentDocument, root = inner.documentElement;
        const images = [...inner.images];
        const beyond = [...inner.querySelectorAll("body *")].filter(
          e => !e.parentElement.closest(".strip, .wide") && e.getBoundingClientRect().right > root.clientWidth + 0.5);
        document.querySelector("#found").textContent = JSON.stringify({
            images: images.length, loaded: images.filter(i => i.complete && i.naturalWidth > 0).length,
            width: root.clientWidth, scroll: root.scrollWidth, beyond: beyond.map(e => e.outerHTML.slice(0, 80)),
            ground: getComputedStyle(inner.body).backgroundColor, text: inner.body.innerText});
    """
    page = tmp_path / "page.html"
    page.write_text(
        f'<iframe style="border:0" width={width} height=900 srcdoc="{html.escape(text)}"></iframe><pre id=found></pre>'
        f"<script>addEventListener('load', () => {{{measure}}})</script>"
    )
    seen = browser.dump(page.as_uri(), f"--window-size={width + 200},1200")
    found = json.loads(html.unescape(re.search(r"<pre id=\"found\">(.*?)</pre>", seen, re.S).group(1)))
    assert found["images"] == found["loaded"] == 7
    assert found["beyond"] == [] and found["scroll"] <= found["width"] and found["width"] > width - 20
    assert found["ground"] == "rgb(255, 255, 255)"
    for shown in ("100.0 ± 0.2 nats per frame", "99.5", "1,234", "mostly lost", "Sequence 5"):
        assert shown in found["text"]
