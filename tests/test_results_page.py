# SPDX-License-Identifier: GPL-3.0-or-later
import os
from types import SimpleNamespace

import pytest

from sqair.data import mnist, moving_mnist
from sqair.errors import UserError
from sqair.verification import reproduction, results_page
from sqair.verification.paper_table import Measured, Number


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("data") / "set")
    options = moving_mnist.Options(canvas_size=(30, 30), digit_scale=0.4, seq_len=2)
    moving_mnist.create(folder, mnist.load_bundle(), options, 200, 207, num_workers=1)
    return reproduction.Plan(folder, "", "", 1.5, many_sequences=4, labelled=("all",))


def subject(name, measured=None, curve=([], [])):
    return SimpleNamespace(name=name, measured=lambda: measured, curve=lambda: curve)


def test_the_page_and_its_figures_are_written_side_by_side(plan, tmp_path):
    path = str(tmp_path / "new" / "page.md")
    additions = [
        dict(labelled=100, accuracy=0.5, standard_error=0.1, by_frame=[], best_update=1, seconds=2.0)
    ]
    known = Measured(1.25, "trained here", 9, {"addition": Number(0.5, 0.1)}, additions)
    subjects = [subject("mlp_air", known, ([0.5, 1.0], [400.0, 500.0])), subject("mlp_vrnn")]
    results_page.write(path, subjects, plan, "the command")
    assert sorted(os.listdir(str(tmp_path / "new"))) == ["page.md", "page_addition.png", "page_hours.png"]
    with open(path) as file:
        text = file.read()
    assert "| MLP-AIR | 1.25 | 9 |" in text and "| MLP-VRNN | not trained |" in text
    assert "K = 1,000 on the first 4 sequences, K = 5 on 207." in text and "of 2 frames" in text
    assert "![Bound by hours](page_hours.png)" in text and "![Addition by labels](page_addition.png)" in text


def test_what_is_not_known_is_not_drawn(plan, tmp_path):
    path = str(tmp_path / "page.md")
    results_page.write(path, [subject("mlp_air")], plan, "")
    assert os.listdir(str(tmp_path)) == ["page.md"]
    with pytest.raises(UserError, match="cannot be written"):
        results_page.write("/dev/null/page.md", [subject("mlp_air")], plan, "")
