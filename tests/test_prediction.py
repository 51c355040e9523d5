# SPDX-License-Identifier: GPL-3.0-or-later
"""Which particle is shown, and what of it; how it is asked for is tested with the evaluator."""

import numpy as np
import pytest
import stub_model
from stub_model import StubDataset, StubModel, StubWithoutObjects, T
from test_evaluator import SETTINGS, VALUES
from tf_run import run

from sqair.evaluation.evaluator import Evaluator
from sqair.model import noise
from sqair.model.sequence_bounds import IndependentFrames, WholeSequences

JITTERED = dict(VALUES, **{"discovery/jitter": np.float32(30)})


def evaluator_of(make_model):
    evaluator = Evaluator(make_model, {"valid": StubDataset(7)}, SETTINGS)
    evaluator.load(JITTERED)
    return evaluator


def drawn():
    """The noise of discoveries that the stub gets, `[T, B, K, N, n]`."""
    wanted = noise.of_objects(stub_model.N, 2)
    return run(noise.draw_by_sequence(SETTINGS.seed, np.arange(7), T, SETTINGS.k_particles, wanted).discovery)


@pytest.mark.parametrize("bound", [WholeSequences, IndependentFrames])
def test_the_chosen_particle_is_one_of_its_own_sequence_or_frame(bound):
    """Errors are so large that the best particle has all the weight: of the sequence, or of each frame."""
    evaluator = evaluator_of(lambda: StubModel(bound=bound()))
    seen = evaluator.predict("valid", 7)
    evaluator.close()
    painted = 0.25 + 30 * drawn().what[..., 0, 0]  # [T, B, K], by every particle of every sequence
    error = (seen.images[..., 0, 0, 0][..., None] - painted) ** 2
    if bound is WholeSequences:
        error = np.broadcast_to(error.sum(0), error.shape)
    clear = np.ptp(error, axis=-1) > 30  # nats
    best = np.argmin(error, axis=-1)
    assert clear.mean() > 0.8 and set(best.ravel()) == {0, 1}
    of_best = np.take_along_axis(painted, best[..., None], -1)[..., 0]
    np.testing.assert_allclose(seen.reconstructions[..., 0, 0, 0][clear], of_best[clear], rtol=1e-5)
    changes = np.any(best != best[:1])
    assert changes == (bound is IndependentFrames)


def test_features_are_appearances_of_what_is_present():
    evaluator = evaluator_of(StubModel)
    seen, batches = evaluator.predict("valid", 7), list(evaluator.features("valid", 7))
    evaluator.close()
    assert [batch.labels.shape for batch in batches] == [(3, 2), (3, 2), (1, 2)]
    features = np.concatenate([batch.features for batch in batches], axis=1)
    assert features.shape == (T, 7, stub_model.N, 2)
    assert np.concatenate([batch.true_presence for batch in batches], axis=1).shape == (T, 7, 2)
    noises = drawn()
    presence = np.round(noises.presence)
    what = noises.what * presence[..., None]
    chosen = np.argmin(
        np.abs((0.25 + 30 * noises.what[..., 0, 0]) - seen.reconstructions[..., :1, 0, 0]).sum(0), axis=-1
    )
    expected = np.stack([what[:, b, k] for b, k in enumerate(chosen)], axis=1)
    np.testing.assert_allclose(features, expected, rtol=1e-5)
    assert np.any(features == 0) and np.any(features != 0)


def test_a_model_without_objects_shows_pictures_alone():
    evaluator = evaluator_of(StubWithoutObjects)
    seen, (batch, *_) = evaluator.predict("valid", 5), evaluator.features("valid", 5)
    evaluator.close()
    assert seen.reconstructions.shape == seen.images.shape == (T, 5, stub_model.H, stub_model.W, 1)
    assert seen.boxes.shape == (T, 5, 0, 4) and seen.glimpses.shape == (T, 5, 0, 1, 1, 1)
    assert seen.presence.shape == seen.presence_prob.shape == seen.object_ids.shape == (T, 5, 0)
    assert batch.features.shape == (T, 3, 1, 2)
    painted = 0.25 + 30 * batch.features[..., 0, 0]
    np.testing.assert_allclose(seen.reconstructions[:, :3, 0, 0, 0], painted, rtol=1e-5)
