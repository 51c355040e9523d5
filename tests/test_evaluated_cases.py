# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest
from stub_model import H, StubDataset, StubModel, T, W

from sqair.errors import UserError
from sqair.evaluation import evaluated_cases, evaluations
from sqair.evaluation.evaluator import Evaluator
from sqair.training import checkpoints
from sqair.training.settings import Settings

VALUES = {
    "decoder/colour": np.full([H, W, 1], 0.25, np.float32),
    "discovery/jitter": np.float32(0),
    "prior/unused": np.zeros(2, np.float32),
}


@pytest.fixture(scope="module")
def model():
    model = Evaluator(
        StubModel, {"valid": StubDataset(7)}, Settings(batch_size=3, k_particles=2, num_threads=1)
    )
    model.load(VALUES)
    yield model
    model.close()


@pytest.fixture
def evaluated(model, tmp_path, monkeypatch):
    """The folder of a run and the entry of its evaluation; what is opened is the stub."""
    path = str(tmp_path / "checkpoints" / "model-7")
    (tmp_path / "checkpoints").mkdir()
    checkpoints.write(path, VALUES)
    opened = []
    monkeypatch.setattr(
        evaluated_cases.opening,
        "open_run",
        lambda folder, found, **changes: opened.append(changes) or (model, 7),
    )
    request = evaluations.make_request(model, checkpoints.of_run_or_path(path), 1, "valid", 0, 0)
    return str(tmp_path), dict(request._asdict()), opened


def test_good_and_bad_sequences_are_those_of_the_evaluation(evaluated):
    folder, entry, opened = evaluated
    well, badly = evaluated_cases.sections(folder, entry, 2, 5, changes={"data_dir": "x"})
    assert (well.title, badly.title) == ("Well explained", "Badly explained")
    assert "highest, of those that show an object, among the first 5" in well.text and "lowest," in badly.text
    assert badly.strips[0].caption == f"Sequence 4: the bound is {-((4 / 6 - 0.25) ** 2):.1f} nats per frame."
    assert {strip.caption[:11] for strip in well.strips} == {"Sequence 1:", "Sequence 2:"}
    assert all(strip.png.startswith(b"\x89PNG") for strip in well.strips + badly.strips)
    assert opened == [{"data_dir": "x", "k_particles": 2, "bound": "iwae"}] and entry["frames"] == T


def test_particles_that_were_resampled_come_together_again(evaluated):
    folder, entry, opened = evaluated
    for bound, at_once in (("iwae", 50), ("fivo", 100)):
        evaluated_cases.sections(folder, dict(entry, bound=bound, particles=100), 2, 5)
        assert (opened[-1]["bound"], opened[-1]["k_particles"]) == (bound, at_once)


def test_another_checkpoint_or_data_set_is_refused(evaluated, tmp_path):
    folder, entry, _ = evaluated
    with pytest.raises(UserError, match="has other weights than what was evaluated"):
        evaluated_cases.sections(folder, dict(entry, weights="x"), 2, 5)
    with pytest.raises(UserError, match="The data set is another one than what was evaluated"):
        evaluated_cases.sections(folder, dict(entry, data="x"), 2, 5)
    for gone in (dict(entry, checkpoint="rolling-3"), dict(entry, checkpoint="/etc/passwd")):
        with pytest.raises(UserError, match="which was evaluated, is not there; .* `cases=0`"):
            evaluated_cases.sections(folder, gone, 2, 5)
    path = str(tmp_path / "checkpoints" / "model-7")
    assert evaluated_cases.sections(folder, dict(entry, checkpoint="rolling-3"), 1, 3, checkpoint=path)
