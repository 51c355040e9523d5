# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof bites: each small mistake in the model makes its verification fail."""

import os
import shutil
import subprocess
import sys

import pytest
import reference_cases

pytestmark = pytest.mark.slow

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GOLDEN = os.path.join(ROOT, "tests", "golden", "small.npz")

# What goes wrong, in which file, what is replaced by what, and the case that shows it if not the golden one.
# The texts are short, so that they survive a change of layout.
MUTATIONS = [
    (
        "gates of the GRU in another order",
        "engine/layers.py",
        "update, reset = tf.split(",
        "reset, update = tf.split(",
    ),
    (
        "no biases in the GRU",
        "engine/layers.py",
        "tf.concat([b_z, b_r, b_h], 0)",
        "0.0 * tf.concat([b_z, b_r, b_h], 0)",
    ),
    ("one bias of the RNN dropped", "engine/layers.py", "b_in + b_state", "b_in"),
    (
        "no biases in layers",
        "engine/loop_gradients.py",
        "tf.nn.bias_add(outputs, bias)",
        "tf.nn.bias_add(outputs, 0.0 * bias)",
    ),
    ("a smaller least scale", "engine/layers.py", "MIN_SCALE = 1e-2", "MIN_SCALE = 1e-3"),
    ("mask not applied", "model/networks.py", "glimpses *= mask", "glimpses *= 1.0"),
    ("no -1 in the scale of moves", "model/propagation.py", "raw_scale + RAW_SCALE_SHIFT", "raw_scale"),
    ("stored factor of moves ignored", "model/propagation.py", "self._update_scale * move", "move"),
    ("first glimpse at the last location", "model/propagation.py", "where + shift", "where"),
    (
        "presence without the temporal state",
        "model/propagation.py",
        "past.presence_hidden, (0, 2)",
        "0.0 * past.presence_hidden, (0, 2)",
    ),
    (
        "slots do not see the slot before",
        "model/propagation.py",
        "carry = ops.concat([objects[:3], hidden])",
        "carry = ops.concat([objects[:2], 0.0 * objects.presence, hidden])",
    ),
    ("same noise for both kinds", "model/sqair.py", "summary, noise.discovery", "summary, noise.propagation"),
    ("ids start again", "model/sqair.py", "object_ids, last_id)", "object_ids, state.last_id)"),
    (
        "absent objects summarised",
        "model/sqair.py",
        "tf.reshape(objects.presence, [-1]) > 0.5",
        "tf.reshape(objects.presence, [-1]) > -0.5",
    ),
    (
        "another order of the absent",
        "engine/ops.py",
        "presence * n_slots - np.arange(n_slots, dtype=np.float32)",
        "(2.0 * presence - 1.0) * (n_slots - np.arange(n_slots, dtype=np.float32))",
        "random_walk_odds",
    ),
    ("the surplus kept instead of the first", "engine/ops.py", "n_slots - np.arange", "n_slots + np.arange"),
    (
        "clipped without straight-through",
        "engine/ops.py",
        "tensor + tf.stop_gradient(tf.clip_by_value(tensor, minimum, maximum) - tensor)",
        "tf.clip_by_value(tensor, minimum, maximum)",
        "against_odds",
    ),
    ("no bias of the prior's presence", "model/priors.py", "logit + self._step_bias", "logit"),
    ("first frame like later ones", "model/priors.py", "is_later * self._later_bias", "self._later_bias"),
    (
        "expected objects not centred",
        "model/priors.py",
        "tf.sigmoid(prior_logit) - 0.5",
        "tf.sigmoid(prior_logit)",
    ),
    ("a walk with a stronger guide", "model/priors.py", "GUIDANCE = 0.1", "GUIDANCE = 0.2", "guided"),
    (
        "logit of impossible discoveries",
        "model/scoring.py",
        "presence_logit), possible)",
        "presence_logit), 1.0)",
    ),
    ("logits of the absent less unlikely", "engine/ops.py", "ABSENT_LOGIT = -88.0", "ABSENT_LOGIT = -8.0"),
    ("counts without the slots before", "model/distributions.py", "(1.0 - prob) * reached", "(1.0 - prob)"),
    (
        "determinant with its sign",
        "model/distributions.py",
        "tf.abs(tf.linalg.diag_part(self._mixing))",
        "tf.linalg.diag_part(self._mixing)",
        "two_slots",
    ),
    ("no determinant", "model/distributions.py", " - self._log_det", ""),
    ("locations in a row not one late", "model/distributions.py", "where[:, :-1]", "where[:, 1:]"),
    (
        "states of other objects",
        "engine/active_slots.py",
        "tf.range(1, tf.size(positions) + 1,",
        "tf.range(tf.size(positions),",
    ),
    ("a bias added twice", "model/propagation.py", "(0, 2), bias=False", "(0, 2)"),
    (
        "biases' gradients of one row",
        "engine/loop_gradients.py",
        "BiasAddGrad(out_backprop=gradients)",
        "BiasAddGrad(out_backprop=gradients[:1])",
    ),
    (
        "scale's gradient half done",
        "model/spatial_transformer.py",
        "raw_scale * (1.0 - raw_scale)",
        "raw_scale",
    ),
    (
        "slopes with the wrong sign",
        "model/spatial_transformer.py",
        "weights * offsets * -_HUGE",
        "weights * offsets * _HUGE",
    ),
    (
        "a border without a slope",
        "model/spatial_transformer.py",
        "at_border * from_middle",
        "0.0 * from_middle",
    ),
    (
        "likelihood's gradient doubled",
        "model/decoder.py",
        "return weights * error",
        "return 2.0 * weights * error",
    ),
    ("deviation for its root", "model/decoder.py", "tf.square(self._root_std)", "self._root_std"),
    ("another offset of the mask", "model/decoder.py", "MASK_OFFSET = 10.0", "MASK_OFFSET = 9.0"),
    ("loss of the whole sequence", "model/bounds.py", "/ tf.cast(seq_len, tf.float32)", ""),
    ("a learning signal with a gradient", "model/bounds.py", "tf.stop_gradient(signal)", "signal"),
    ("signals summed over particles", "model/bounds.py", "score /= log_weights.shape.as_list()[1]", "pass"),
    (
        "bound for the log-weight in VIMCO",
        "model/bounds.py",
        'estimator == "reference":',
        'estimator == "vimco":',
        "textbook",
    ),
]


@pytest.fixture(scope="module")
def case_of(tmp_path_factory):
    """name -> path of a case; each is made once."""
    folder, paths = tmp_path_factory.mktemp("cases"), {"golden": GOLDEN}

    def path_of(name):
        if name not in paths:
            paths[name] = str(folder / (name + ".npz"))
            reference_cases.make_case(paths[name], **reference_cases.CASES[name])
        return paths[name]

    return path_of


def copy_of_the_package(folder):
    shutil.copytree(
        os.path.join(ROOT, "sqair"), str(folder / "sqair"), ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(
        os.path.join(ROOT, "scripts"), str(folder / "scripts"), ignore=shutil.ignore_patterns("__pycache__")
    )


def verify(folder, case):
    return subprocess.run(
        [sys.executable, str(folder / "scripts" / "verify_reference.py"), case],
        env=dict(os.environ, PYTHONPATH=str(folder)),
        cwd=str(folder),
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_without_a_mistake_the_cases_pass(tmp_path, case_of):
    """The copied package is the one that is verified, and fails for no other reason."""
    copy_of_the_package(tmp_path)
    for case in sorted({"golden"} | {mutation[4] for mutation in MUTATIONS if len(mutation) > 4}):
        done = verify(tmp_path, case_of(case))
        assert done.returncode == 0, case + ": " + done.stdout + done.stderr


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation[0])
def test_a_mistake_fails(mutation, tmp_path, case_of):
    (_, file, right, wrong), case = mutation[:4], (mutation[4:] or ["golden"])[0]
    copy_of_the_package(tmp_path)
    path = str(tmp_path / "sqair" / file)
    with open(path) as source:
        text = source.read()
    assert right in text, "sqair/{} no longer holds {!r}: write this mutation anew".format(file, right)
    with open(path, "w") as source:
        source.write(text.replace(right, wrong))
    done = verify(tmp_path, case_of(case))
    assert not done.stderr, done.stderr  # a mistake is found by its numbers, not by a crash
    assert done.returncode == 1, "{} does not notice it: {}".format(case, done.stdout.splitlines()[-1])
    assert done.stdout.splitlines()[-1].startswith("failed: ")
