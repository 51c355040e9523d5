# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof bites: each small mistake in the model makes its verification fail."""

import os
import shutil
from typing import NamedTuple

import pytest
import reference_cases
from mutants import Verifier

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GOLDEN = os.path.join(ROOT, "tests", "golden", "small.npz")


class Mutation(NamedTuple):
    """A mistake: in one place of a file, something wrong instead of what is right."""

    what: str
    file: str  # below sqair/
    right: str  # occurs once; short, so that it survives a change of layout
    wrong: str
    case: str = "golden"  # the case that shows it
    fast: bool = (
        False  # an output of a small case shows it, so that it is tried without gradients, in seconds
    )


MUTATIONS = [
    Mutation(
        "gates of the GRU in another order",
        "engine/layers.py",
        "update, reset = tf.split(",
        "reset, update = tf.split(",
        case="two_slots",
        fast=True,
    ),
    Mutation(
        "no biases in the GRU",
        "engine/layers.py",
        "tf.concat([b_z, b_r, b_h], 0)",
        "0.0 * tf.concat([b_z, b_r, b_h], 0)",
    ),
    Mutation("one bias of the RNN dropped", "engine/layers.py", "b_in + b_state", "b_in"),
    Mutation(
        "no biases in layers",
        "engine/loop_gradients.py",
        "tf.nn.bias_add(outputs, bias)",
        "tf.nn.bias_add(outputs, 0.0 * bias)",
    ),
    Mutation(
        "a smaller least scale",
        "model/distributions.py",
        "MIN_SCALE = 1e-2",
        "MIN_SCALE = 1e-3",
        case="two_slots",
        fast=True,
    ),
    Mutation(
        "mask not applied",
        "model/networks.py",
        "glimpses *= mask",
        "glimpses *= 1.0",
        case="two_slots",
        fast=True,
    ),
    Mutation(
        "no -1 in the scale of moves",
        "model/propagation.py",
        "raw_scale + RAW_SCALE_SHIFT",
        "raw_scale",
    ),
    Mutation("stored factor of moves ignored", "model/propagation.py", "self._update_scale * move", "move"),
    Mutation("first glimpse at the last location", "model/propagation.py", "where + shift", "where"),
    Mutation(
        "presence without the temporal state",
        "model/propagation.py",
        "logit = self._presence(relation=relation, temporal=early.temporal, what=what)",
        "logit = self._presence(relation=relation, temporal=0.0 * early.temporal.value, what=what)",
        case="two_slots",
        fast=True,
    ),
    Mutation(
        "slots do not see the slot before",
        "model/propagation.py",
        "PreviousSlot(what, where, presence, hidden)",
        "PreviousSlot(what, where, 0.0 * presence, hidden)",
    ),
    Mutation(
        "same noise for both kinds",
        "model/cell.py",
        "summary, noise.discovery",
        "summary, noise.propagation",
        case="two_slots",
        fast=True,
    ),
    Mutation(
        "ids start again",
        "model/cell.py",
        "new_ids, last_id = next_ids(state.last_id,",
        "last_id, (new_ids, _) = state.last_id, next_ids(state.last_id,",
    ),
    Mutation(
        "absent objects summarised",
        "model/cell.py",
        "squeeze_last(objects.presence) > 0.5",
        "squeeze_last(objects.presence) > -0.5",
    ),
    Mutation(
        "another order of the absent",
        "model/slots.py",
        "presence * n_slots - np.arange(n_slots, dtype=np.float32)",
        "(2.0 * presence - 1.0) * (n_slots - np.arange(n_slots, dtype=np.float32))",
        case="random_walk_odds",
    ),
    Mutation(
        "the surplus kept instead of the first",
        "model/slots.py",
        "n_slots - np.arange",
        "n_slots + np.arange",
    ),
    Mutation(
        "clipped without straight-through",
        "engine/tensors.py",
        "tensor + tf.stop_gradient(tf.clip_by_value(tensor, minimum, maximum) - tensor)",
        "tf.clip_by_value(tensor, minimum, maximum)",
        case="against_odds",
    ),
    Mutation(
        "no bias of the prior's presence",
        "model/priors.py",
        "logit + self._step_bias",
        "logit",
        case="two_slots",
        fast=True,
    ),
    Mutation(
        "first frame like later ones", "model/priors.py", "is_later * self._later_bias", "self._later_bias"
    ),
    Mutation(
        "expected objects not centred",
        "model/priors.py",
        "tf.sigmoid(prior_logit) - 0.5",
        "tf.sigmoid(prior_logit)",
    ),
    Mutation(
        "a walk with a stronger guide",
        "model/priors.py",
        "RANDOM_WALK_GAIN = 0.1",
        "RANDOM_WALK_GAIN = 0.2",
        case="guided",
    ),
    Mutation(
        "logit of impossible discoveries",
        "model/scoring.py",
        "_presence_nm1(squeeze_last(sampled.presence))",
        "1.0",
    ),
    Mutation(
        "logits of the absent less unlikely", "model/slots.py", "ABSENT_LOGIT = -88.0", "ABSENT_LOGIT = -8.0"
    ),
    Mutation(
        "counts without the slots before", "model/distributions.py", "(1.0 - prob) * reached", "(1.0 - prob)"
    ),
    Mutation(
        "determinant with its sign",
        "model/distributions.py",
        "tf.abs(tf.linalg.diag_part(self._mixing))",
        "tf.linalg.diag_part(self._mixing)",
        case="two_slots",
    ),
    Mutation("no determinant", "model/distributions.py", " - self._log_det", "", case="two_slots", fast=True),
    Mutation("locations in a row not one late", "model/distributions.py", "where[:, :-1]", "where[:, 1:]"),
    Mutation(
        "states of other objects",
        "engine/active_slots.py",
        "tf.range(1, tf.size(positions) + 1,",
        "tf.range(tf.size(positions),",
    ),
    Mutation(
        "a bias added twice",
        "engine/early.py",
        "weights.layer not in products and weights.bias is not None",
        "weights.bias is not None",
    ),
    Mutation(
        "weights of another input",
        "engine/early.py",
        "chosen = [rows[name] for name in names]",
        "chosen = [rows[name] if name != 'temporal' else rows['relation'] if 'relation' in rows else rows[name]"
        " for name in names]",
    ),
    Mutation(
        "slots see the first slot alone",
        "engine/active_slots.py",
        "outputs, carry = step(inputs, carry, *row_inputs)",
        "outputs, _ = step(inputs, carry, *row_inputs)",
        case="two_slots",
        fast=True,
    ),
    Mutation(
        "biases' gradients of one row",
        "engine/loop_gradients.py",
        "BiasAddGrad(out_backprop=gradients)",
        "BiasAddGrad(out_backprop=gradients[:1])",
    ),
    Mutation(
        "scale's gradient half done",
        "model/spatial_transformer.py",
        "raw_scale * (1.0 - raw_scale)",
        "raw_scale",
    ),
    Mutation(
        "slopes with the wrong sign",
        "model/spatial_transformer.py",
        "weights * offsets * -_HUGE",
        "weights * offsets * _HUGE",
    ),
    Mutation(
        "a border without a slope",
        "model/spatial_transformer.py",
        "at_border * from_middle",
        "0.0 * from_middle",
    ),
    Mutation(
        "likelihood's gradient doubled",
        "model/decoder.py",
        "to_mean = weights * error",
        "to_mean = 2.0 * weights * error",
    ),
    Mutation(
        "standard deviation for its root", "model/decoder.py", "tf.square(self._root_std)", "self._root_std"
    ),
    Mutation(
        "another offset of the mask",
        "model/decoder.py",
        "MASK_OFFSET = 10.0",
        "MASK_OFFSET = 9.0",
        case="two_slots",
        fast=True,
    ),
    Mutation(
        "loss of the whole sequence",
        "model/bounds.py",
        "/ tf.cast(seq_len, tf.float32)",
        "",
    ),
    Mutation("a learning signal with a gradient", "model/bounds.py", "tf.stop_gradient(signal)", "signal"),
    Mutation(
        "signals summed over particles", "model/bounds.py", "score /= log_weights.shape.as_list()[1]", "pass"
    ),
    Mutation(
        "bound for the log-weight in VIMCO",
        "model/bounds.py",
        'estimator == "reference":',
        'estimator == "vimco":',
        case="textbook",
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


@pytest.fixture(scope="module")
def verifier():
    with Verifier() as started:
        yield started


def text_of(mutation):
    with open(os.path.join(ROOT, "sqair", mutation.file), encoding="utf-8") as source:
        return source.read()


def copy_of_the_package(folder):
    for name in ("sqair", "scripts"):
        ignore = shutil.ignore_patterns("__pycache__", "*.npz")
        shutil.copytree(os.path.join(ROOT, name), str(folder / name), ignore=ignore)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_what_a_mistake_replaces_is_there_once(mutation):
    found = text_of(mutation).count(mutation.right)
    message = "sqair/{} holds {!r} {} times: write this mutation anew"
    assert found == 1, message.format(mutation.file, mutation.right, found)


def test_mistakes_have_names_of_their_own_and_some_are_tried_fast():
    assert len({mutation.what for mutation in MUTATIONS}) == len(MUTATIONS)
    assert sum(mutation.fast for mutation in MUTATIONS) >= 8
    assert all(mutation.right != mutation.wrong for mutation in MUTATIONS)
    assert {mutation.case for mutation in MUTATIONS} <= {"golden"} | set(reference_cases.CASES)


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted({mutation.case for mutation in MUTATIONS}))
def test_without_a_mistake_the_cases_pass(case, tmp_path, case_of, verifier):
    """The copied package is the one that is verified, and fails for no other reason."""
    copy_of_the_package(tmp_path)
    assert_passes(verifier.verify(tmp_path, case_of(case)))


def assert_passes(result):
    status, output, errors = result
    assert (status, errors) == (0, ""), output + errors


def fails(mutation, folder, verifier, case, gradients):
    """The outputs and gradients that show a mistake."""
    copy_of_the_package(folder)
    text = text_of(mutation).replace(mutation.right, mutation.wrong, 1)
    (folder / "sqair" / mutation.file).write_text(text, encoding="utf-8")
    status, output, errors = verifier.verify(folder, case, gradients)
    assert not errors, errors  # a mistake is found by its numbers, not by a crash
    lines = output.splitlines()
    assert (status, lines[-1][:7]) in ((0, "verifie"), (1, "failed:"))
    return [line for line in lines if "FAILED" in line]


@pytest.mark.parametrize(
    "mutation", [one for one in MUTATIONS if one.fast], ids=lambda mutation: mutation.what
)
def test_a_mistake_fails_by_an_output(mutation, tmp_path, case_of, verifier):
    wrong = fails(mutation, tmp_path, verifier, case_of(mutation.case), gradients=False)
    assert [line for line in wrong if line.startswith("output ")], mutation.case + " does not notice it"


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutation", [one for one in MUTATIONS if not one.fast], ids=lambda mutation: mutation.what
)
def test_a_mistake_fails(mutation, tmp_path, case_of, verifier):
    wrong = fails(mutation, tmp_path, verifier, case_of(mutation.case), gradients=True)
    assert wrong, mutation.case + " does not notice it"


def test_without_a_mistake_no_output_fails(tmp_path, case_of, verifier):
    copy_of_the_package(tmp_path)
    for case in sorted({mutation.case for mutation in MUTATIONS if mutation.fast}):
        _, output, errors = verifier.verify(tmp_path, case_of(case), gradients=False)
        assert not errors
        wrong = [line for line in output.splitlines() if "FAILED" in line]
        assert wrong and not [line for line in wrong if not line.startswith("gradient ")]
