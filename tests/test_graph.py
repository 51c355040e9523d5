# SPDX-License-Identifier: GPL-3.0-or-later
import functools
import os

import numpy as np
import pytest
from stub_model import H, StubDataset, StubModel, W

from sqair.errors import UserError
from sqair.evaluation.evaluator import Evaluator
from sqair.graph_mode import tf
from sqair.model.sqair import mlp_sqair
from sqair.training import checkpoints, settings
from sqair.training import graph as training_graph
from sqair.training.settings import Settings

MOST_NODES = 8_000  # of the original's 21,788
SETTINGS = Settings(batch_size=3, k_particles=2, seq_len=2, train_itr=8, learning_rate=0.01, num_threads=1)


def test_a_failed_update_changes_nothing():
    data = StubDataset(30, poisoned=4)
    graph = training_graph.TrainingGraph(StubModel, data, SETTINGS)
    graph.update(False)
    before = graph.values()
    with pytest.raises(training_graph.NonFiniteError, match="^Update 2 was not applied"):
        graph.update(False)
    assert graph.step == 1 == before["global_step"]
    assert {name for name in before if "RMSProp" in name}
    for name, value in graph.values().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    graph.close()


def test_variables_that_are_not_finite_are_not_saved(tmp_path):
    graph = training_graph.TrainingGraph(StubModel, StubDataset(6), SETTINGS)
    with graph.graph.as_default():
        variable = next(v for v in tf.trainable_variables() if v.op.name == "prior/unused")
        variable.load([np.nan, 0], graph.session)
    with pytest.raises(training_graph.NonFiniteError, match="not finite: prior/unused"):
        graph.save(str(tmp_path), rolling=False)
    assert os.listdir(str(tmp_path)) == []
    graph.close()


def test_clipping_bounds_what_is_applied_not_what_is_reported():
    values = []
    for clip_norm in (0.0, 1e-3):
        asked = SETTINGS._replace(opt="sgd", learning_rate=1.0, schedule=(), clip_norm=clip_norm)
        graph = training_graph.TrainingGraph(StubModel, StubDataset(6), asked)
        before = graph.values()["decoder/colour"], graph.values()["discovery/jitter"]
        numbers = graph.update(True)
        after = graph.values()["decoder/colour"], graph.values()["discovery/jitter"]
        change = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(after, before)))
        values.append((numbers["gradient_norm"], change))
        graph.close()
    assert values[0][0] == values[1][0] == pytest.approx(values[0][1], rel=1e-4)
    assert values[1][1] == pytest.approx(1e-3, rel=1e-3)


def test_averages_follow_the_weights_and_are_what_is_evaluated():
    asked = SETTINGS._replace(average=0.5)
    graph = training_graph.TrainingGraph(StubModel, StubDataset(6), asked)
    expected = None
    for step in range(12):
        graph.update(False)
        colour = graph.values()["decoder/colour"]
        kept = min(0.5, step / (step + 10))
        expected = colour if expected is None else kept * expected + (1 - kept) * colour
    values = graph.values()
    np.testing.assert_allclose(values["decoder/colour/average"], expected, rtol=1e-5)
    chosen = checkpoints.averaged(values)
    np.testing.assert_array_equal(chosen["decoder/colour"], values["decoder/colour/average"])
    assert not [name for name in chosen if name.endswith("average")] and "global_step" in chosen
    assert np.abs(chosen["decoder/colour"] - values["decoder/colour"]).max() > 1e-4

    data = {"valid": StubDataset(4)}
    bounds = []
    for found in (values, {**values, "decoder/colour": chosen["decoder/colour"]}, {**chosen}):
        evaluator = Evaluator(StubModel, data, asked)
        evaluator.load(found)
        bounds.append(evaluator.evaluate("valid").normalised_iwae)
        evaluator.close()
    assert bounds[0] == bounds[1] == bounds[2]
    start = training_graph.TrainingGraph(
        StubModel, StubDataset(6), asked, weights=checkpoints.Checkpoint("x", 12, values)
    )
    np.testing.assert_array_equal(start.values()["decoder/colour"], chosen["decoder/colour"])
    assert not start.values()["decoder/colour/average"].any()
    before = start.values()["decoder/colour"]
    np.testing.assert_array_equal(checkpoints.averaged(start.values())["decoder/colour"], before)  # none yet
    start.close()
    graph.close()


def test_a_seed_fixes_the_parameters_and_another_changes_them():
    found = []
    for seed in (1, 1, 2):
        graph = training_graph.TrainingGraph(StubModel, StubDataset(6), SETTINGS._replace(seed=seed))
        found.append(graph.values()["decoder/colour"])
        graph.close()
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def test_weights_to_start_from_leave_what_flags_fix_as_it_is():
    def make_model(output_std):
        image = np.full([H, W, 1], 0.5, np.float32)
        return mlp_sqair(image, n_units=1, n_what=3, glimpse_size=4, output_std=output_std)

    first = training_graph.TrainingGraph(functools.partial(make_model, 0.16), StubDataset(6), SETTINGS)
    values = {name: value + 1 if "image_encoder" in name else value for name, value in first.values().items()}
    first.close()
    source = checkpoints.Checkpoint("x", 12, values)
    start = training_graph.TrainingGraph(
        functools.partial(make_model, 0.36), StubDataset(6), SETTINGS, weights=source
    )
    found = start.values()
    start.close()
    assert found["sqair/decoder/output_std_root"] == pytest.approx(0.6)
    learned = [name for name in found if "image_encoder" in name and name in values]
    assert learned
    for name in learned:
        if not name.endswith(("RMSProp", "RMSProp_1")):
            np.testing.assert_array_equal(found[name], values[name], err_msg=name)


COMBINATIONS = [(opt, estimator) for opt in settings.OPTIMISERS for estimator in settings.ESTIMATORS]


def train_one_step_and_evaluate(make_model, data, asked):
    graph = training_graph.TrainingGraph(make_model, data["train"], asked)
    before = graph.values()
    numbers = graph.update(with_numbers=True)
    after = graph.values()
    graph.close()
    assert list(numbers) == graph.names and all(np.isfinite(value) for value in numbers.values())
    assert {name for name in before if not np.array_equal(before[name], after[name])} > {"global_step"}
    evaluator = Evaluator(make_model, data, asked)
    evaluator.load(after)
    assert np.isfinite(evaluator.evaluate("valid").normalised_iwae)
    evaluator.close()


@pytest.mark.parametrize("opt, estimator", COMBINATIONS)
def test_every_combination_trains_a_step_and_evaluates(opt, estimator):
    asked = SETTINGS._replace(opt=opt, estimator=estimator, clip_norm=1.0, l2=0.1)
    train_one_step_and_evaluate(StubModel, {"train": StubDataset(6), "valid": StubDataset(4)}, asked)


@pytest.mark.slow
@pytest.mark.parametrize("opt, estimator", COMBINATIONS)
@pytest.mark.parametrize("k_particles", [1, 2])
def test_every_combination_trains_a_step_of_the_model(opt, estimator, k_particles):
    asked = SETTINGS._replace(opt=opt, estimator=estimator, k_particles=k_particles, seq_len=0)
    data = {"train": StubDataset(6), "valid": StubDataset(4)}

    def make_model():
        return mlp_sqair(np.full([H, W, 1], 0.5, np.float32), n_units=1, n_what=3, glimpse_size=4)

    if k_particles == 1 and estimator != "reinforce":
        with pytest.raises(UserError, match="k_particles"):
            training_graph.TrainingGraph(make_model, data["train"], asked)
    else:
        train_one_step_and_evaluate(make_model, data, asked)


def test_the_graph_of_a_default_training_is_small():
    """The original's has 21,788 nodes; nodes cost time when a training starts."""
    make_model = functools.partial(mlp_sqair, np.full([H, W, 1], 0.5, np.float32))
    graph = training_graph.TrainingGraph(make_model, StubDataset(6), Settings())
    assert len(graph.graph.get_operations()) <= MOST_NODES
    with graph.graph.as_default():
        starts = [variable.initializer.inputs[1].name for variable in tf.global_variables()]
    assert len(set(starts)) == len(starts)  # they are fed, each for its own variable
    graph.close()


def test_a_start_takes_the_weights_of_a_checkpoint_and_nothing_else(tmp_path):
    trained = training_graph.TrainingGraph(StubModel, StubDataset(6), SETTINGS)
    trained.update(False)
    checkpoint = checkpoints.of_run_or_path(trained.save(str(tmp_path), rolling=False))
    assert checkpoint.step == 1
    graph = training_graph.TrainingGraph(StubModel, StubDataset(6), SETTINGS, weights=checkpoint)
    values, before = graph.values(), trained.values()
    assert graph.step == values["global_step"] == 0
    for name, value in values.items():
        if name.startswith(("decoder", "discovery", "prior")):
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert [name for name in values if "RMSProp" in name and not np.array_equal(values[name], before[name])]
    other = functools.partial(StubModel, n_what=3)
    with pytest.raises(UserError, match="prior/unused has shape"):
        training_graph.TrainingGraph(other, StubDataset(6), SETTINGS, weights=checkpoint)
    trained.close()
    graph.close()
