# SPDX-License-Identifier: GPL-3.0-or-later
"""Systems of the table, with programs that are pretended: what these leave in folders is made by hand."""

import json
import os
import re

import numpy as np
import pytest

from sqair.data import mnist, moving_mnist
from sqair.data.pipeline import SequenceDataset
from sqair.errors import UserError
from sqair.evaluation import addition, evaluations
from sqair.training import checkpoints
from sqair.training.export import export
from sqair.verification import reproduction
from sqair.verification.paper_table import Number
from sqair.verification.training_legs import OPEN_END

HOURS = 0.01
T, NUM_TRAIN, NUM_VALID = 2, 150, 160  # so many that 40 and more have two digits


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("data") / "set")
    options = moving_mnist.Options(canvas_size=(30, 30), digit_scale=0.4, seq_len=T)
    moving_mnist.create(folder, mnist.load_bundle(), options, NUM_TRAIN, NUM_VALID, num_workers=1)
    return folder


def save(folder, step, train_itr, seconds):
    """What a training leaves."""
    os.makedirs(os.path.join(folder, "checkpoints"), exist_ok=True)
    values = {"weight": np.full(2, float(step), np.float32)}
    checkpoints.write(os.path.join(folder, "checkpoints", f"model-{step}"), values)
    with open(os.path.join(folder, "flags.json"), "w") as file:
        json.dump({"train_itr": train_itr}, file)
    with open(os.path.join(folder, "times.csv"), "a") as file:
        if step == 10:
            file.write("step,seconds\n0,0\n5,6\n")
        file.write(f"{step},{seconds}\n")
    with open(os.path.join(folder, "metrics.csv"), "w") as file:
        file.write(
            f"step,source,normalised_iwae,seq_len\n5,valid,3.0,1\n10,batch,4.0,{T}\n10,valid,5.0,{T}\n"
        )


class Programs:
    """Pretends to run scripts: notes their flags, and leaves what they would."""

    def __init__(self, plan, name):
        self.calls, self._plan, self._name = [], plan, name
        self._folder = os.path.join(plan.results_dir, name, "1")
        self.legs = 0

    def __call__(self, command, log, is_over=lambda: False):
        words = dict(re.fullmatch("--(\\w+)=(.*)", word).groups() for word in command[2:])
        script = os.path.basename(command[1])
        self.calls.append((script, words))
        with open(log, "a") as file:
            file.write(f"{script}\n")
        return getattr(self, script[: -len(".py")])(words, is_over)

    def train(self, words, is_over):
        self.legs += 1
        if self.legs == 1:
            assert not is_over()
            save(self._folder, 10, OPEN_END, 16.0)  # cut before the first leg's 24 seconds
            return 143
        if self.legs == 2:
            assert not is_over()
            save(self._folder, 20, OPEN_END, 26.0)
            assert is_over()
            return 143
        save(self._folder, int(words["train_itr"]), int(words["train_itr"]), 35.0)
        return 0

    def evaluate(self, words, _):
        data = SequenceDataset(self._plan.data_dir, "valid")
        checkpoint = checkpoints.of_run_or_path(words["run"])
        request = evaluations.Request(
            "model", checkpoint.step, checkpoints.digest(checkpoint.values), evaluations.digest_of(data), "valid",
            int(words["num_sequences"]) or NUM_VALID, T, int(words["k_particles"]), 0, 0, 1,
            "fivo" if "vrnn" in self._name else "iwae",
        )  # fmt: skip
        estimate = dict(mean=-5.0 * int(words["k_particles"]), standard_error=0.25, by_frame=[0.0] * T)
        names = ("normalised_iwae", "normalised_vae", "data_ll", "kl", "mse", "ess", "num_steps")
        names += ("num_disc_steps", "num_prop_steps", "num_step_acc", "visible_step_acc")
        entry = dict(request._asdict(), estimates=dict.fromkeys(names, estimate), objects=None)
        evaluations.Evaluations(words["output"]).add(entry)
        return 0

    def train_addition(self, words, _):
        checkpoint = checkpoints.of_run_or_path(words["run"])
        pairs = reproduction.pairs(self._plan.data_dir)
        data, tested = addition.digest_of_pairs(pairs), pairs["valid"].num_sequences
        weights = checkpoints.digest(checkpoint.values)
        every = pairs["train"].num_sequences
        for labelled, accuracy in (
            (40, 0.5),
            (every, 0.75),
            (every + 1, 0.875),
        ):  # nobody asks for the last one
            request = addition.Request(
                "model", checkpoint.step, weights, data, T, 5, 0, labelled, tested, addition.METHOD
            )
            entry = dict(request._asdict(), accuracy=accuracy, standard_error=0.0625)
            addition.Additions(words["output"]).add(entry)
        return 0


def plan_in(tmp_path, data_dir, **changes):
    plan = reproduction.Plan(
        data_dir, str(tmp_path / "table"), "", HOURS, many_sequences=3, labelled=("40", "all")
    )
    return plan._replace(**changes)


def bring_to_the_end(subject):
    subject.train()
    subject.evaluate_few()
    subject.evaluate_many()
    subject.add()


def test_a_system_is_trained_in_legs_then_measured_and_all_of_it_once(tmp_path, data_dir):
    plan = plan_in(tmp_path, data_dir)
    programs, seen = Programs(plan, "mlp_vrnn"), []
    subject = reproduction.Subject("mlp_vrnn", plan, programs)
    assert subject.measured() is None and subject.curve() == ([], []) and subject.additions() == []
    subject.train(seen.append)
    subject.evaluate_few()
    subject.evaluate_many()
    subject.add()
    scripts = ["train.py"] * 3 + ["evaluate.py"] * 2 + ["train_addition.py"]
    assert [script for script, _ in programs.calls] == scripts
    new, again, falling, few, many, adding = (words for _, words in programs.calls)
    folder = os.path.join(plan.results_dir, "mlp_vrnn", "1")
    assert (new["model_config"], new["train_itr"], new["seq_len"]) == (
        "mlp_vrnn_model.py",
        str(OPEN_END),
        "3",
    )
    assert new["eval_on_train"] == "false"
    assert again == {"resume_run": folder, "num_threads": "0"}
    # From 6 to 26 seconds 15 updates, and 10 seconds are left.
    assert falling == dict(again, train_itr=str(20 + 8), decay_from="20")
    assert (few["k_particles"], few["num_sequences"]) == ("5", "0") and "particles_at_once" not in few
    assert (many["k_particles"], many["num_sequences"], many["particles_at_once"]) == ("1000", "3", "1000")
    assert adding["labelled"] == "40,all"
    assert seen[-1] == pytest.approx(26 / 3600)

    measured = subject.measured()
    assert measured.hours == pytest.approx(35 / 3600) and measured.updates == 28
    assert measured.numbers == dict(
        bound=Number(-5000.0 * T, 0.25 * T), bound_few=Number(-25.0 * T, 0.25 * T),
        elbo=Number(-25.0 * T, 0.25 * T), data_ll=Number(-5000.0 * T, 0.5), kl=Number(-5000.0 * T, 0.5),
        counting=Number(-25.0, 0.25), addition=Number(0.75, 0.0625),
    )  # fmt: skip
    assert measured.by_frame == dict(normalised_iwae=[0.0] * T, kl=[0.0] * T)
    assert [entry["labelled"] for entry in measured.additions][0] == 40
    assert subject.curve() == ([pytest.approx(16 / 3600)], [5.0])

    del programs.calls[:]
    bring_to_the_end(reproduction.Subject("mlp_vrnn", plan, programs))
    assert [script for script, _ in programs.calls] == [
        "train_addition.py"
    ]  # which knows itself what is known


def test_what_models_with_objects_need_is_asked_for(tmp_path, data_dir):
    plan = plan_in(tmp_path, data_dir, tiny=True)
    for name, seq_len in (("mlp_sqair", "3"), ("mlp_air", "0")):
        programs = Programs(plan, name)
        bring_to_the_end(reproduction.Subject(name, plan, programs))
        assert programs.calls[0][1]["seq_len"] == seq_len and programs.calls[0][1]["n_units"] == "1"
        assert "particles_at_once" not in programs.calls[4][1]


def test_a_model_that_comes_along_is_not_trained_and_its_evaluations_count(tmp_path, data_dir):
    plan = plan_in(tmp_path, data_dir, models_dir=str(tmp_path / "models"))
    folder = os.path.join(plan.models_dir, "mlp_sqair")
    save(folder, 40, 50, 0.0)
    os.remove(os.path.join(folder, "times.csv"))
    programs = Programs(plan, "mlp_sqair")
    programs.evaluate(dict(run=folder, output=folder, num_sequences="0", k_particles="5"), None)
    before = sorted(os.listdir(folder))
    subject = reproduction.Subject("mlp_sqair", plan, programs)
    bring_to_the_end(subject)
    assert [script for script, _ in programs.calls] == ["evaluate.py", "train_addition.py"]
    assert programs.calls[0][1]["k_particles"] == "1000"
    assert sorted(os.listdir(folder)) == before
    measured = subject.measured()
    assert (measured.hours, measured.updates) == (None, 40)
    assert measured.hours_from == "comes along, its hours were not noted"
    assert set(measured.numbers) == {"bound", "bound_few", "elbo", "data_ll", "kl", "counting", "addition"}
    assert subject.curve() == ([], [])


def test_a_trained_model_that_was_exported_comes_along_with_its_hours_and_its_curve(tmp_path, data_dir):
    plan = plan_in(tmp_path, data_dir)
    subject = reproduction.Subject("mlp_air", plan, Programs(plan, "mlp_air"))
    subject.train()
    plan = plan._replace(models_dir=str(tmp_path / "models"), results_dir=str(tmp_path / "another"))
    export(subject.folder, os.path.join(plan.models_dir, "mlp_air"))
    exported = reproduction.Subject("mlp_air", plan)
    assert exported.comes_along and exported.curve() == subject.curve() and len(subject.curve()[0]) == 1
    found, trained = exported.measured(), subject.measured()
    assert (found.hours, found.updates) == (trained.hours, trained.updates)
    assert found.hours_from == "comes along, hours by the run's own records"


def test_evaluations_of_other_weights_or_numbers_do_not_count(tmp_path, data_dir):
    plan = plan_in(tmp_path, data_dir)
    programs = Programs(plan, "mlp_air")
    subject = reproduction.Subject("mlp_air", plan, programs)
    bring_to_the_end(subject)
    assert subject.evaluation(5, 0) is not None and subject.evaluation(5, NUM_VALID) is not None
    assert subject.evaluation(5, 2) is None and subject.evaluation(4, 0) is None
    save(subject.folder, 99, 99, 60.0)
    assert subject.evaluation(5, 0) is None and subject.additions() == []


def test_a_training_that_fails_or_does_not_get_on_is_named(tmp_path, data_dir):
    plan = plan_in(tmp_path, data_dir)

    def failing(command, log, is_over):
        with open(log, "a") as file:
            file.write("The loss is not finite.\n")
        return 2

    with pytest.raises(UserError, match="ended with status 2: The loss is not finite."):
        reproduction.Subject("mlp_air", plan, failing).train()
    with pytest.raises(UserError, match="does not get on"):
        reproduction.Subject("mlp_air", plan, lambda *_: 0).train()


def test_only_a_training_may_be_ended(tmp_path, data_dir):
    plan = plan_in(tmp_path, data_dir)
    Subject = reproduction.Subject
    Subject("mlp_air", plan, Programs(plan, "mlp_air")).train()  # its first two legs are

    def ended(command, log, is_over):
        with open(log, "a") as file:
            file.write("Ended.\n")
        return 143

    for act in (Subject.evaluate_few, Subject.evaluate_many, Subject.add):
        with pytest.raises(UserError, match="ended with status 143: Ended."):
            act(Subject("mlp_air", plan, ended))


def test_a_leg_is_not_over_before_it_has_begun(tmp_path, data_dir):
    """A training that is told to end before it listens can't save; so with few hours more the rate falls at once."""
    for more in (1.01, 1.3, 1.45, 1.6, 3.0):
        plan = plan_in(tmp_path / str(more), data_dir)
        save(os.path.join(plan.results_dir, "mlp_air", "1"), 10, 10, 3600 * HOURS)
        seen = []

        def training(command, log, is_over, seen=seen):
            seen.append(is_over())
            raise KeyboardInterrupt

        subject = reproduction.Subject("mlp_air", plan._replace(hours=HOURS * more), training)
        if more < 1.25:
            subject.train()
            assert seen == []
        else:
            with pytest.raises(KeyboardInterrupt):
                subject.train()
            assert seen == [False]


def test_numbers_of_other_data_or_another_classifier_do_not_count(tmp_path, data_dir, monkeypatch):
    plan = plan_in(tmp_path, data_dir)
    subject = reproduction.Subject("mlp_air", plan, Programs(plan, "mlp_air"))
    subject.train()
    subject.add()
    assert len(subject.additions()) == 2
    monkeypatch.setattr(addition, "METHOD", 99)
    assert subject.additions() == []
    monkeypatch.undo()
    monkeypatch.setattr(addition, "digest_of_pairs", lambda data: "of others")
    assert subject.additions() == []


def test_times_beyond_the_checkpoint_do_not_end_a_leg(tmp_path, data_dir):
    """A machine that stopped when the leg was over and not yet saved has left them."""
    plan = plan_in(tmp_path, data_dir)
    folder = os.path.join(plan.results_dir, "mlp_air", "1")
    save(folder, 10, OPEN_END, 16.0)
    with open(os.path.join(folder, "times.csv"), "a") as file:
        file.write("15,25.0\n")  # the leg ends after 24 seconds
    seen = []

    def training(command, log, is_over):
        seen.append(is_over())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduction.Subject("mlp_air", plan, training).train()
    assert seen == [False]


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (dict(many_sequences=161), "`many_sequences=161` is refused: .* has 160 validation sequences"),
        (dict(few_sequences=161), "`few_sequences=161`"),
        (
            dict(labelled=("all", "x")),
            "`labelled=all,x` is refused: it takes `all` and numbers from 40 to [456].,",
        ),
        (dict(labelled=("39",)), "`labelled=39`"),
        (dict(labelled=()), "`labelled=` is refused"),
        (dict(labelled=("100",)), "`labelled=100`.*with 2 digits"),  # 150 there are, but not of two
        (dict(data_dir="nowhere"), "nowhere"),
    ],
)
def test_what_would_fail_after_hours_is_refused_at_once(tmp_path, data_dir, changes, sentence):
    plan = plan_in(tmp_path, data_dir, labelled=("all",))
    reproduction.check(plan)
    with pytest.raises(UserError, match=sentence):
        reproduction.check(plan._replace(**changes))


def test_a_number_that_is_not_finite_is_left_out(tmp_path, data_dir):
    plan = plan_in(tmp_path, data_dir)
    programs = Programs(plan, "mlp_air")
    subject = reproduction.Subject("mlp_air", plan, programs)
    bring_to_the_end(subject)
    store = evaluations.Evaluations(subject.output)
    entry = subject.evaluation(plan.few, 0)
    entry["estimates"]["normalised_iwae"] = dict(entry["estimates"]["normalised_iwae"], mean=None)
    with open(os.path.join(store.folder, evaluations.JSON), "w") as file:
        json.dump({"evaluations": [entry]}, file)
    assert set(subject.measured().numbers) == {"elbo", "counting", "addition"}


def test_systems_that_there_are_not_are_refused(tmp_path, data_dir):
    plan = plan_in(tmp_path, data_dir)
    assert [s.name for s in reproduction.subjects(["mlp_air", "mlp_sqair", "mlp_air"], plan)] == [
        "mlp_air",
        "mlp_sqair",
    ]
    with pytest.raises(UserError, match="`systems=mlp_rnn` is refused: it takes some of mlp_sqair, "):
        reproduction.subjects(["mlp_rnn"], plan)
