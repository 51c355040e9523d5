# SPDX-License-Identifier: GPL-3.0-or-later
import fcntl
import os
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
import stub_data_set
import stub_model
from stub_model import StubDataset, StubModel, T

from sqair.errors import UserError
from sqair.evaluation.evaluator import Evaluator
from sqair.graph_mode import tf
from sqair.model.sqair import mlp_sqair
from sqair.training.settings import Settings

SETTINGS = Settings(batch_size=3, k_particles=2, num_threads=1)
VALUES = {
    "decoder/colour": np.full([stub_model.H, stub_model.W, 1], 0.25, np.float32),
    "discovery/jitter": np.float32(0),
    "prior/unused": np.zeros(2, np.float32),
}


@pytest.fixture
def evaluator():
    data = {"train": StubDataset(12), "valid": StubDataset(7)}
    evaluator = Evaluator(StubModel, data, SETTINGS)
    evaluator.load(VALUES)
    yield evaluator
    evaluator.close()


def bound(sequences):
    """The bound of the stub without jitter, per frame: the mean over sequences."""
    brightness = np.linspace(0, 1, 7)[:sequences]
    return -np.mean((brightness - 0.25) ** 2)


def test_every_sequence_weighs_the_same_though_the_last_batch_is_smaller(evaluator):
    found = evaluator.evaluate("valid")
    assert list(found)[:3] == ["normalised_vae", "normalised_iwae", "data_ll"]
    np.testing.assert_allclose(list(found.values())[:3], [bound(7)] * 3, rtol=1e-5)
    assert found.mse == pytest.approx(-bound(7), rel=1e-5) and found.ess == pytest.approx(2)


@pytest.mark.parametrize("fraction, sequences", [(1e-6, 1), (0.5, 4), (3 / 7, 3), (1.0, 7)])
def test_a_fraction_is_rounded_up_to_sequences(evaluator, fraction, sequences):
    found = evaluator.evaluate("valid", fraction=fraction).normalised_vae
    np.testing.assert_allclose(found, bound(sequences), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 5, 20])
def test_the_size_of_batches_changes_no_figure(evaluator, batch_size):
    values = dict(VALUES, **{"discovery/jitter": np.float32(1)})
    evaluator.load(values)
    other = Evaluator(StubModel, {"valid": StubDataset(7)}, SETTINGS._replace(batch_size=batch_size))
    other.load(values)
    for fraction in (0.7, 1.0):
        wanted, found = evaluator.evaluate("valid", fraction), other.evaluate("valid", fraction)
        np.testing.assert_allclose(list(found.values()), list(wanted.values()), rtol=1e-5)
    other.close()


@pytest.mark.slow
def test_the_size_of_batches_changes_no_figure_of_the_model():
    def make_model():
        return mlp_sqair(
            np.full([stub_model.H, stub_model.W, 1], 0.5, np.float32), n_units=1, n_what=3, glimpse_size=4
        )

    found, values = [], None
    for batch_size in (7, 1, 3):
        settings = SETTINGS._replace(batch_size=batch_size)
        evaluator = Evaluator(make_model, {"valid": StubDataset(7)}, settings)
        if values is None:
            evaluator.initialise()
            values = evaluator._session.run({v.op.name: v for v in evaluator._variables})
        evaluator.load(values)
        found.append(list(evaluator.evaluate("valid").values()))
        evaluator.close()
    np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=1e-4, atol=1e-5)


def test_a_prediction_of_fewer_sequences_is_the_beginning_of_one_of_more(evaluator):
    evaluator.load(dict(VALUES, **{"discovery/jitter": np.float32(1)}))
    for few, many in zip(evaluator.predict("valid", 3), evaluator.predict("valid", 7)):
        np.testing.assert_allclose(few, many[:, :3], rtol=1e-6)


def test_repetition_adds_nothing_to_the_graph(evaluator):
    def evaluate():
        evaluator.evaluate("valid")
        evaluator.evaluate("train", 0.5)
        evaluator.predict("valid", 5)
        return evaluator.graph_nodes

    nodes = evaluate()
    assert [evaluate() for _ in range(3)] == [nodes] * 3


def test_the_same_again_and_nothing_carried_over(evaluator):
    evaluator.load(dict(VALUES, **{"discovery/jitter": np.float32(1)}))
    first = evaluator.evaluate("valid")
    evaluator.evaluate("train", seq_len=2)
    assert evaluator.evaluate("valid") == first
    assert evaluator.evaluate("valid", seq_len=2) != first


def test_more_frames_than_there_are_are_refused(evaluator):
    with pytest.raises(UserError, match=f"`seq_len=99` is refused: the sequences have {T} frames"):
        evaluator.evaluate("valid", seq_len=99)


def test_it_can_be_stopped_between_batches(evaluator):
    answers = iter([False, True])
    assert evaluator.evaluate("valid", should_stop=lambda: next(answers)) is None


def test_its_progress_can_be_watched(evaluator):
    seen = []

    def watch(batches):
        assert len(batches) == 3
        for batch in batches:
            yield batch
            seen.append(batch)

    assert evaluator.evaluate("valid", progress=watch) == evaluator.evaluate("valid")
    assert seen == [0, 1, 2]


def test_untrained_it_takes_any_number_of_steps():
    evaluator = Evaluator(StubModel, {"valid": StubDataset(7)}, SETTINGS)
    evaluator.initialise()
    step = evaluator.stepper("valid")
    errors = [step()["mse"] for _ in range(8)]  # 24 sequences of 7: three passes and a part of a fourth
    assert np.all(np.isfinite(errors)) and len(set(errors[:7])) == 7
    assert errors[7] == errors[0]  # batches are full, so that the eighth has the sequences of the first
    evaluator.close()


def test_a_prediction_has_one_particle_a_sequence(evaluator):
    seen = evaluator.predict("valid", 5)
    h, w = stub_model.H, stub_model.W
    assert seen.images.shape == seen.reconstructions.shape == (T, 5, h, w, 1)
    assert seen.boxes.shape == (T, 5, 3, 4) and seen.glimpses.shape == (T, 5, 3, 4, 4, 1)
    assert seen.presence.shape == seen.presence_prob.shape == seen.object_ids.shape == (T, 5, 3)
    assert seen.true_boxes.shape == (T, 5, 2, 4) and seen.true_presence.shape == (T, 5, 2)
    np.testing.assert_allclose(seen.reconstructions, 0.25)
    np.testing.assert_allclose(seen.images[0, :, 0, 0, 0], np.linspace(0, 1, 7)[:5])
    assert evaluator.predict("valid", 5, seq_len=2).images.shape[0] == 2
    assert evaluator.predict("valid", 50).images.shape[1] == 7


def test_values_of_other_sizes_are_refused(evaluator):
    with pytest.raises(UserError, match=r"prior/unused has shape \[3\] in old.ckpt"):
        evaluator.load(dict(VALUES, **{"prior/unused": np.zeros(3)}), "old.ckpt")


def test_the_default_graph_stays_as_it_is(evaluator, fresh_graph):
    evaluator.evaluate("valid")
    assert tf.get_default_graph() is fresh_graph and not fresh_graph.get_operations()


@pytest.mark.slow
def test_the_script_shows_a_bar_on_a_terminal(tmp_path):
    data_dir, tests = str(tmp_path / "set"), os.path.dirname(os.path.abspath(__file__))
    stub_data_set.script_set(data_dir, num_train=8)

    def call(script, *flags, stderr=subprocess.PIPE):
        command = [sys.executable, os.path.join(os.path.dirname(tests), "scripts", script), *flags]
        command += ["--results_dir", str(tmp_path), "--batch_size=4"]
        environment = {**os.environ, "PYTHONPATH": tests}
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, check=True)

    model = ("--model_config", os.path.join(tests, "stub_config.py"))
    once = ("--train_itr=1", "--log_itr=0", "--fig_itr=0")
    call("train.py", "--data_dir", data_dir, *model, *once)
    first = call("evaluate.py", *model)
    assert first.stderr == b"" and b"IWAE bound, nats per sequence" in first.stdout
    terminal, stderr = os.openpty()
    with os.fdopen(terminal, "rb", 0) as shown, os.fdopen(stderr, "wb", 0):
        fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))  # rows and columns
        assert b"model-1 after 1 updates: 6 valid" in call("evaluate.py", *model, stderr=stderr).stdout
        text = shown.read(10000).decode()
    assert "0/6" in text and "6/6" in text and "sequence/s" in text
