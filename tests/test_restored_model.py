# SPDX-License-Identifier: GPL-3.0-or-later
"""What tracking and generation share; how it is used is tested by theirs."""

import os

import numpy as np
import pytest

from sqair.baselines.air import mlp_air
from sqair.errors import UserError
from sqair.evaluation.evaluator import session_config
from sqair.evaluation.generator import Generator
from sqair.evaluation.restored_model import RestoredModel
from sqair.evaluation.tracker import Tracker
from sqair.graph_mode import tf
from sqair.training import checkpoints

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODEL = os.path.join(ROOT, "models", "mlp_sqair")
SHAPE = (2, 3, 1)


class Stub(RestoredModel):
    """Computes the one variable of a model that is nothing else."""

    def _build(self, model):
        self.variable = model

    def value(self):
        return self._session.run(self.variable)


def make_model():
    return tf.get_variable("x", [2])


def test_it_has_the_values_of_a_checkpoint():
    restored = Stub(make_model, SHAPE, dict(x=np.array([1.0, 2.0]), y=np.zeros(1)))
    np.testing.assert_array_equal(restored.value(), [1, 2])
    assert restored.image_shape == SHAPE and not tf.global_variables()
    restored.close()
    with pytest.raises(RuntimeError, match="closed"):
        restored.value()
    with pytest.raises(UserError, match="^here holds no variable x"):
        Stub(make_model, SHAPE, {}, "here")
    with pytest.raises(UserError, match="^Variable x of here has values that are not finite"):
        Stub(make_model, SHAPE, dict(x=np.array([0.0, np.nan])), "here")


def test_what_it_computes_is_up_to_others():
    with pytest.raises(NotImplementedError):
        RestoredModel(make_model, SHAPE, dict(x=np.zeros(2)))


def test_the_checkpoint_of_something_else_is_refused(tmp_path):
    path = str(tmp_path / "other")
    variables = [make_model(), tf.get_variable("y", [])]
    saver = checkpoints.Saver(variables)
    with tf.Session(config=session_config(1)) as session:
        session.run(tf.global_variables_initializer())
        saver.write(session, path)
    with pytest.raises(
        UserError, match="other holds no variable mean_image; it is not a checkpoint of SQAIR"
    ):
        Stub.from_checkpoint(MODEL, checkpoint=path)


def test_the_image_size_is_that_of_the_background(monkeypatch):
    monkeypatch.setattr(
        Stub, "__init__", lambda self, *arguments, **options: vars(self).update(given=arguments, **options)
    )
    restored = Stub.from_checkpoint(MODEL, num_threads=3)
    _, image_shape, values, path = restored.given
    assert image_shape == (50, 50, 1) and path.endswith(f"model-{values['global_step']}")
    assert restored.num_threads == 3


@pytest.mark.parametrize("kind, purpose", [(Tracker, "Tracking"), (Generator, "Generation")])
def test_a_model_that_follows_no_object_is_refused(kind, purpose):
    make = lambda: mlp_air(np.zeros([9, 8, 1], np.float32), n_units=1, n_what=2, glimpse_size=4)  # noqa: E731
    with pytest.raises(
        UserError, match=f"^{purpose} needs objects .* a model of AIR does not know; name a run"
    ):
        kind(make, [9, 8, 1], {})
