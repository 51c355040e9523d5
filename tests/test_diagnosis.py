# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong is told once, with what to change; what goes well is not spoken of."""

import pytest

from sqair.training.diagnosis import Diagnosis

N, WINDOW = 3, 4
GOOD = dict(seq_len=3, normalised_iwae=500.0, raw_num_steps=1.1, raw_num_prop_steps=0.7)


def told(reports, n_steps=N, **model):
    """The sentences after each report."""
    diagnosis = Diagnosis(n_steps, window=WINDOW, **model)
    return [diagnosis.add(report) for report in reports]


def test_a_good_training_is_not_spoken_of():
    rising = [dict(GOOD, normalised_iwae=100.0 * i) for i in range(9)]
    noisy = [dict(GOOD, normalised_iwae=500.0 + 20 * (-1) ** i, raw_num_steps=0.1 + i % 2) for i in range(9)]
    assert not any(told(rising) + told(noisy))


@pytest.mark.parametrize(
    "wrong, words",
    [
        # a training on small digits with `disc_step_bias=1` that never found any
        (dict(raw_num_steps=0.053, raw_num_prop_steps=0.024), ["nothing is found", "0.05 objects"]),
        (dict(raw_num_steps=0.001, raw_num_prop_steps=0.0), ["nothing is found", "`disc_step_bias`"]),
        (dict(raw_num_steps=3.0, raw_num_prop_steps=2.0), ["all slots are always full", "`disc_step_bias`"]),
        (dict(raw_num_steps=1.5, raw_num_prop_steps=0.01), ["nothing is propagated", "`learning_rate`"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_symptom_is_told_once_until_it_is_gone(wrong, words):
    bad = dict(GOOD, **wrong)
    sentences = told([bad] * 7 + [GOOD] * 5 + [bad] * 5)
    at = [i for i, found in enumerate(sentences) if found]
    assert at == [3, 15]
    for sentence in sentences[3] + sentences[15]:
        assert all(word in sentence for word in words), sentence


def test_a_bound_that_falls_is_told_with_what_it_was():
    falling = [dict(GOOD, normalised_iwae=bound) for bound in [500] * 4 + [480] * 4 + [440] * 4]
    sentences = told(falling)
    at = [i for i, found in enumerate(sentences) if found]
    assert len(at) == 1 and at[0] > 8
    (sentence,) = sentences[at[0]]
    assert "the bound falls" in sentence and "after 500" in sentence and "`clip_norm`" in sentence


def test_bounds_of_other_lengths_are_not_compared():
    longer = [dict(GOOD, seq_len=3 + i // 6, normalised_iwae=500.0 - 60 * (i // 6)) for i in range(24)]
    assert not any(told(longer))


def test_one_frame_has_nothing_to_propagate():
    assert not any(told([dict(GOOD, seq_len=1, raw_num_prop_steps=0.0)] * 6))


def test_a_model_of_independent_frames_need_not_propagate():
    anew = [dict(GOOD, raw_num_prop_steps=0.0)] * 6
    assert any(told(anew)) and not any(told(anew, keeps_ids=False))
    nothing = [dict(GOOD, raw_num_steps=0.0, raw_num_prop_steps=0.0)] * 6
    assert "nothing is found" in sum(told(nothing, keeps_ids=False), [])[0]


@pytest.mark.parametrize(
    "model, advice",
    [
        (dict(), "lower `learning_rate`, set `clip_norm`, or use `estimator=vimco`"),
        (dict(may_use_vimco=False), "lower `learning_rate`, or set `clip_norm`"),
        (dict(n_steps=0), "lower `learning_rate`, or set `clip_norm`"),
    ],
)
def test_no_estimator_is_advised_that_is_in_use_or_of_no_effect(model, advice):
    falling = [dict(GOOD, normalised_iwae=bound) for bound in [500] * 4 + [400] * 4]
    assert sum(told(falling, **model), [])[0].endswith("; " + advice)


@pytest.mark.parametrize(
    "keeps_ids, advice",
    [(True, "`disc_step_bias` or `prop_step_bias`, or raise"), (False, "`disc_step_bias`, or raise")],
)
def test_who_does_not_propagate_is_not_told_how(keeps_ids, advice):
    full = [dict(GOOD, raw_num_steps=3.0, raw_num_prop_steps=2.0)] * 4
    (sentence,) = sum(told(full, keeps_ids=keeps_ids), [])
    assert sentence.endswith(f"; lower {advice} `output_std`")


def test_of_a_model_without_objects_only_the_bound_is_watched():
    without = [{name: x for name, x in GOOD.items() if "raw" not in name}] * 6
    assert not any(told(without, n_steps=0))
    falling = without + [dict(without[0], normalised_iwae=100.0)] * 4
    assert "the bound falls" in sum(told(falling, n_steps=0), [])[0]
