# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest
from stub_model import H, StubDataset, StubModel, T, W

from sqair.errors import UserError
from sqair.evaluation import cases
from sqair.evaluation.evaluator import Evaluator
from sqair.training.settings import Settings


@pytest.fixture(scope="module")
def evaluator():
    """Sequences of brightness 0 to 1; 0.25, that of the second and third, is what the stub explains best."""
    evaluator = Evaluator(
        StubModel, {"valid": StubDataset(7)}, Settings(batch_size=3, k_particles=2, num_threads=1)
    )
    colour = np.full([H, W, 1], 0.25, np.float32)
    values = {
        "decoder/colour": colour,
        "discovery/jitter": np.float32(0),
        "prior/unused": np.zeros(2, np.float32),
    }
    evaluator.load(values)
    yield evaluator
    evaluator.close()


@pytest.mark.parametrize("sequences, parts", [(7, 1), (5, 2)])
def test_the_bound_of_each_sequence(evaluator, sequences, parts):
    found = cases.bounds(evaluator, "valid", sequences, parts=parts)
    brightness = np.linspace(0, 1, 7)[:sequences]
    np.testing.assert_allclose(found.bound, -((brightness - 0.25) ** 2), rtol=1e-4)
    assert found.shows_objects.all()
    assert found.worst(1) == [sequences - 1] and set(found.best(2)) == {1, 2}


def test_the_best_show_objects_and_what_is_not_finite_is_worst():
    bound = np.array([9.0, 7.0, np.nan, 8.0, -5.0, -np.inf])
    found = cases.Bounds(bound, np.array([False, True, True, True, True, True]))
    assert found.best(2) == [3, 1] and found.best(99) == [3, 1, 4, 2, 5]
    assert found.worst(3) == [2, 5, 4]
    nothing = cases.Bounds(bound[:2], np.zeros(2, bool))
    assert nothing.best(5) == [0, 1]


def test_chosen_sequences_are_those_of_all(evaluator):
    every = evaluator.predict("valid", 7)
    chosen = cases.predict(evaluator, "valid", [6, 0, 4])
    for some, of_all in zip(chosen, every):
        np.testing.assert_array_equal(some, of_all[:, [6, 0, 4]])
    assert cases.predict(evaluator, "valid", [2], seq_len=2).images.shape[0] == 2 < T


@pytest.mark.parametrize("number", [7, -1])
def test_a_sequence_that_is_not_there_is_refused(evaluator, number):
    with pytest.raises(UserError, match=f"There is no sequence {number}: the valid data has 7"):
        cases.predict(evaluator, "valid", [0, number])
