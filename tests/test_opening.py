# SPDX-License-Identifier: GPL-3.0-or-later
import json

import numpy as np
import pytest
from test_evaluator import SETTINGS, VALUES, bound

from sqair import config_files
from sqair.errors import UserError
from sqair.evaluation.opening import open_run
from sqair.graph_mode import tf
from sqair.training import checkpoints

DATA_CONFIG = """
from orderedattrdict import AttrDict
from stub_model import StubDataset

def load(flags):
    return AttrDict(train=StubDataset(8), valid=StubDataset(7))
"""


@pytest.fixture
def open_stub(tmp_path):
    """A function that opens a run folder of the stub with a checkpoint of given values."""
    flags = dict(SETTINGS._asdict(), schedule=["1"], n_what=2, data_config="x.py", model_config="y.py")
    (tmp_path / "flags.json").write_text(json.dumps(flags))
    (tmp_path / "data.py").write_text(DATA_CONFIG)
    (tmp_path / "model.py").write_text("from stub_model import StubModel\nload = lambda *_: StubModel()\n")
    configs = {f"{kind}_config": str(tmp_path / f"{kind}.py") for kind in ("data", "model")}

    def open_stub(values, **changes):
        with tf.Graph().as_default(), tf.Session() as session:
            variables = [tf.get_variable(name, initializer=value) for name, value in values.items()]
            session.run(tf.global_variables_initializer())
            checkpoints.save(session, checkpoints.Saver(variables), str(tmp_path / "checkpoints"), 5)
        return open_run(str(tmp_path), **dict(configs, **changes))

    return open_stub


def test_a_run_is_opened_with_its_last_checkpoint(open_stub):
    evaluator, step = open_stub(dict(VALUES, global_step=np.int64(5)))
    assert step == 5 and evaluator.evaluate("valid").normalised_vae == pytest.approx(bound(7), rel=1e-5)
    evaluator.close()


def test_a_checkpoint_that_does_not_say_its_step_is_taken(open_stub, tmp_path):
    evaluator, step = open_stub(VALUES, checkpoint=str(tmp_path / "checkpoints" / "model-5"))
    assert step is None and evaluator.evaluate("valid").normalised_vae == pytest.approx(bound(7), rel=1e-5)
    evaluator.close()


def test_what_is_evaluated_of_the_data_can_be_chosen(open_stub):
    evaluator, _ = open_stub(VALUES, choose=lambda data: {"chosen": data["valid"]})
    assert list(evaluator.data) == ["chosen"]
    assert evaluator.evaluate("chosen").normalised_vae == pytest.approx(bound(7), rel=1e-5)
    evaluator.close()


def test_a_config_of_the_user_has_to_be_named(open_stub):
    with pytest.raises(UserError, match="made with the config file y.py, .* name it: give `model_config`"):
        open_stub(VALUES, model_config=None)


def test_a_bound_that_the_model_has_not_is_refused(open_stub):
    evaluator, _ = open_stub(VALUES, bound="iwae")  # its own
    evaluator.close()
    with pytest.raises(UserError, match="`bound=fivo` is refused: this model is evaluated by iwae alone"):
        open_stub(VALUES, bound="fivo")


@pytest.mark.parametrize(
    "trained, bound, below",
    [
        (0.3, None, 0.3),
        (0.3, "fivo", 0.3),
        (0.3, "iwae", 0.0),
        (0.0, None, 0.0),
        (0.0, "fivo", 0.5),
        (None, "fivo", 0.5),
    ],
)
def test_the_bound_sets_when_particles_are_resampled(open_stub, tmp_path, trained, bound, below):
    """Of a model that can do both."""
    path = tmp_path / "flags.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored if trained is None else dict(stored, resample_below=trained)))
    (tmp_path / "model.py").write_text(
        "from stub_model import StubModel\nfrom sqair.model.sequence_bounds import Filtered, WholeSequences\n"
        "def load(flags, _):\n    load.below = flags.resample_below\n"
        "    return StubModel(bound=Filtered() if flags.resample_below else WholeSequences())\n"
    )
    evaluator, _ = open_stub(VALUES, bound=bound)
    assert config_files.load(str(tmp_path / "model.py")).load.below == below
    assert evaluator.bound.name == ("fivo" if below else "iwae")
    evaluator.close()
