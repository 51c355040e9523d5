# SPDX-License-Identifier: GPL-3.0-or-later
import os

import pytest
from PIL import Image
from stub_model import StubDataset, StubModel, T

from sqair.errors import UserError
from sqair.evaluation import gallery
from sqair.evaluation.evaluator import Evaluator
from sqair.training.settings import Settings


@pytest.fixture(scope="module")
def evaluator():
    evaluator = Evaluator(
        StubModel, {"valid": StubDataset(7)}, Settings(batch_size=3, k_particles=2, num_threads=1)
    )
    evaluator.initialise()
    yield evaluator
    evaluator.close()


@pytest.mark.slow
def test_each_group_has_a_figure_and_each_sequence_glimpses_and_a_film(evaluator, tmp_path):
    folder = str(tmp_path / "new" / "figures")
    written = list(gallery.make(evaluator, "valid", {"best": [4, 0], "none": []}, folder, film=".gif", fps=2))
    names = ["best.png", "best-4-glimpses.png", "best-4.gif", "best-0-glimpses.png", "best-0.gif"]
    assert written == [os.path.join(folder, name) for name in names]
    assert sorted(os.listdir(folder)) == sorted(names)
    for name in names:
        with Image.open(os.path.join(folder, name)) as picture:
            assert getattr(picture, "n_frames", 1) == (T if name.endswith("gif") else 1)
            assert min(picture.size) > 100


def test_films_can_be_left_out(evaluator, tmp_path):
    list(gallery.make(evaluator, "valid", {"x": [1]}, str(tmp_path), seq_len=2, film=""))
    assert sorted(os.listdir(str(tmp_path))) == ["x-1-glimpses.png", "x.png"]


def test_what_is_not_there_is_refused_before_a_folder_is_made(evaluator, tmp_path):
    with pytest.raises(UserError, match="There is no sequence 7"):
        list(gallery.make(evaluator, "valid", {"x": [7]}, str(tmp_path / "x")))
    assert os.listdir(str(tmp_path)) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/x cannot be written"):
        list(gallery.make(evaluator, "valid", {"x": [1]}, str(tmp_path / "file" / "x")))
