# SPDX-License-Identifier: GPL-3.0-or-later
"""The addition task: which sum do the two digits of a sequence have, told from frozen latents.

A small classifier learns from the training sequences with two digits; those of the validation data test it.

addition.json  what was found, one entry for each checkpoint and number of labelled sequences
addition.csv   the same, a row for each entry

Not in the paper: a frame at a time is classified (see `sum_classifier`), which tells more than the features of all
frames concatenated: in a comparison on 8,000 training sequences and features of models/mlp_sqair, 60% instead of 34%
of the sums of the validation sequences. A tenth of the labelled sequences is held out, and training ends when these are
not classified better any more, with the weights that did best on them (the paper trains for 1e7 iterations).
"""

import math
import os
import time
from typing import Any, NamedTuple

import numpy as np

from sqair.errors import UserError
from sqair.evaluation.entries import Entries, Kind, plain_rows
from sqair.evaluation.evaluations import digest_of
from sqair.evaluation.sum_classifier import NUM_SUMS, SumClassifier
from sqair.training import checkpoints
from sqair.training.reporting import TRAIN, VALID

JSON, CSV = "addition.json", "addition.csv"
NUM_DIGITS = 2  # of the sequences that are taken
METHOD = 3  # raised whenever the same latents would give other numbers
HELD_OUT_SHARE, LEAST_HELD_OUT = 0.1, 20  # of the labelled sequences
LEAST_LABELLED = 2 * LEAST_HELD_OUT
CHECK_EVERY = 200  # updates between looks at what is held out
PATIENCE, PATIENT_SHARE = 25, 0.2  # looks without anything better, at least, and of all looks: training ends


class Examples(NamedTuple):
    """Sequences to classify."""

    features: Any  # [n, T, S, F] float32
    sums: Any  # [n] int, 0 to 18

    def between(self, first, last):
        """Those from place `first` to `last - 1`."""
        return Examples(*(field[first:last] for field in self))


class Request(NamedTuple):
    """What is asked; two that are equal give the same numbers on the same machine."""

    checkpoint: str  # its name
    step: int  # updates, None if it does not say
    weights: str  # digest of its values
    data: str  # digests of the training and validation data
    frames: int
    particles: int  # of which one is drawn by importance weight, to be classified
    seed: int
    labelled: int  # training sequences, those held out included
    tested: int  # validation sequences
    method: int  # version of how that is done; numbers of others do not compare


class Stopping:
    """Notes when something was best, and when it is time to end: there was nothing better for `patience` looks or more.

    The longer it took to come so far, the longer it waits: `PATIENT_SHARE` of all looks.
    """

    def __init__(self, patience=PATIENCE):
        self.best, self.best_step, self.looks, self.looks_since = None, 0, 0, 0
        self._patience = patience

    def is_better(self, step, accuracy, loss):
        """Takes the next look, returns whether it is the best; of equal accuracy is better what has less loss."""
        if not math.isfinite(loss):
            raise UserError(f"The classifier's loss is {loss} at update {step}: the latents are not finite.")
        better = self.best is None or (accuracy, -loss) > self.best
        if better:
            self.best, self.best_step = (accuracy, -loss), step
        self.looks += 1
        self.looks_since = 0 if better else self.looks_since + 1
        return better

    @property
    def is_over(self):
        """Whether to end."""
        return self.looks_since >= max(self._patience, PATIENT_SHARE * self.looks)


def with_pairs(data):
    """The sequences of a mapping of split -> `SequenceDataset` that have two digits.

    Returns:
        Dict of split -> `SequenceDataset`.

    Raises:
        UserError: if there are none, or what is annotated are no digits.
    """
    chosen = {}
    for split, dataset in data.items():
        labels = dataset.labels()
        numbers = np.flatnonzero((labels >= 0).sum(1) == NUM_DIGITS)
        if len(numbers) < LEAST_LABELLED or labels.max() > (NUM_SUMS - 1) // NUM_DIGITS:
            raise UserError(
                f"The {split} data has {len(numbers)} sequences with {NUM_DIGITS} labelled digits, but {LEAST_LABELLED}"
                " or more are needed, with labels up to 9; let `data_dir` be moving multi-MNIST."
            )
        chosen[split] = dataset.only(numbers)
    return chosen


def numbers_labelled(words, num_train):
    """How many labelled sequences are meant.

    Args:
        words: list of str, numbers or "all".
        num_train: int, how many there are.

    Returns:
        List of int.

    Raises:
        UserError: if it is another word, there are not as many, or too few of them.
    """
    counts = [num_train if word == "all" else int(word) if word.isdecimal() else 0 for word in words]
    if not counts or not all(LEAST_LABELLED <= count <= num_train for count in counts):
        raise UserError(
            f"`labelled={','.join(words)}` is refused: it takes `all` and numbers from {LEAST_LABELLED} to {num_train},"
            f" as many as there are training sequences with {NUM_DIGITS} digits, commas between."
        )
    return counts


def make_requests(evaluator, checkpoint, labelled, tested=0):
    """A `Request` for each number of labelled sequences.

    Args:
        evaluator: `sqair.evaluation.evaluator.Evaluator` whose data are as of `with_pairs`.
        checkpoint: `Checkpoint` that it has loaded.
        labelled: list of str, as of `numbers_labelled`.
        tested: int, how many of the validation sequences, the first ones; 0: all.

    Raises:
        UserError: if there are not as many, or too few of them.
    """
    train, valid = evaluator.data[TRAIN], evaluator.data[VALID]
    if tested > valid.num_sequences:
        raise UserError(
            f"`num_sequences={tested}` is refused: {valid.num_sequences} have {NUM_DIGITS} digits."
        )
    data = digest_of_pairs(evaluator.data)
    return [
        Request(
            checkpoint=os.path.basename(checkpoint.path),
            step=checkpoint.step,
            weights=checkpoints.digest(checkpoint.values),
            data=data,
            frames=train.seq_len,
            particles=evaluator.settings.k_particles,
            seed=evaluator.settings.seed,
            labelled=count,
            tested=tested or valid.num_sequences,
            method=METHOD,
        )
        for count in numbers_labelled(labelled, train.num_sequences)
    ]


def digest_of_pairs(data):
    """A short fingerprint of what `with_pairs` returns: str."""
    return "-".join(digest_of(data[split]) for split in (TRAIN, VALID))


def _check(entry):
    entry.setdefault("method", 1)
    float(entry["accuracy"]), float(entry["standard_error"])


def _rows(entries):
    return plain_rows([{name: entry[name] for name in entry if name != "by_frame"} for entry in entries])


_KIND = Kind(
    json=JSON,
    csv=CSV,
    key="additions",
    title="results of the addition task",
    request=Request,
    check=_check,
    order=lambda entry: (entry["step"] or 0, entry["labelled"]),
    rows=_rows,
)


class Additions(Entries):
    """The results that a folder keeps: dicts as of `answer`."""

    def __init__(self, folder):
        """Takes the folder, which must exist."""
        super().__init__(folder, _KIND)


def answer(evaluator, requests, additions, progress):
    """Carries requests out, except those that are known already; what was cut is lost up to the last entry.

    Args:
        evaluator: `Evaluator` whose data are as of `with_pairs`.
        requests: list of `Request`, of one checkpoint.
        additions: `Additions` to look in and to add to.
        progress: an object with `update(number of sequences)`, for the features; `num_sequences` tells how many.

    Returns:
        List of entries: dict of the request's fields, then accuracy and its standard error over the tested sequences,
        accuracy from each frame alone, accuracies on what was learnt from and what was held out, and at which update
        that was best, how many updates were made and how many seconds they took.
    """
    missing = [request for request in requests if additions.find(request) is None]
    examples = {}
    for split, count in num_sequences(missing).items():
        examples[split] = extract(evaluator, split, count, progress)
    entries = []
    for request in requests:
        entry = additions.find(request)
        if entry is None:
            labelled = examples[TRAIN].between(0, request.labelled)
            entry = dict(request._asdict(), **classify(labelled, examples[VALID], request.seed))
            additions.add(entry)
        entries.append(entry)
    return entries


def num_sequences(requests):
    """Of how many sequences requests need the features: dict of split -> int, empty without requests."""
    if not requests:
        return {}
    return {TRAIN: max(r.labelled for r in requests), VALID: max(r.tested for r in requests)}


def extract(evaluator, split, count, progress):
    """The first `count` sequences of a split as `Examples`; arguments as of `answer`."""
    features, sums = [], []
    for batch in evaluator.features(split, count):
        features.append(np.swapaxes(batch.features, 0, 1))
        sums.append(np.where(batch.labels >= 0, batch.labels, 0).sum(1))
        progress.update(len(sums[-1]))
    return Examples(np.concatenate(features).astype(np.float32), np.concatenate(sums))


def classify(labelled, tested, seed, patience=PATIENCE, check_every=CHECK_EVERY):
    """Trains a classifier on `Examples`, the last of which are held out, and tests it on others.

    Returns:
        Dict, as of `answer`.
    """
    start = time.time()
    count = len(labelled.sums)
    num_learnt = count - max(int(HELD_OUT_SHARE * count), LEAST_HELD_OUT)
    learnt, held_out = labelled.between(0, num_learnt), labelled.between(num_learnt, count)
    classifier, stopping = SumClassifier(*labelled.features.shape[2:], seed), Stopping(patience)
    updates = 0
    while not stopping.is_over:
        for _ in range(check_every):
            classifier.update(*learnt)
        updates += check_every
        right, loss = classifier.test(*held_out)
        if stopping.is_better(updates, float(right.mean()), loss):
            classifier.keep()
    classifier.restore()
    accuracy, learnt_accuracy, held_out_accuracy = (
        float(classifier.test(*examples)[0].mean()) for examples in (tested, learnt, held_out)
    )
    frames = range(tested.features.shape[1])
    by_frame = [float(classifier.test(tested.features[:, t : t + 1], tested.sums)[0].mean()) for t in frames]
    classifier.close()
    return {
        "accuracy": accuracy,
        "by_frame": by_frame,
        "standard_error": math.sqrt(accuracy * (1 - accuracy) / len(tested.sums)),
        "learnt_accuracy": learnt_accuracy,
        "held_out_accuracy": held_out_accuracy,
        "best_update": stopping.best_step,
        "updates": updates,
        "seconds": round(time.time() - start, 1),
    }


def table(entries):
    """Entries of `answer` as text for a terminal."""
    lines = [f"  {'labelled':>9}{'accuracy':>10}{'std. error':>12}{'learnt':>9}{'updates':>9}{'seconds':>9}"]
    for entry in entries:
        lines.append(
            f"  {entry['labelled']:>9,}{entry['accuracy']:>10.4f}{entry['standard_error']:>12.4f}"
            f"{entry['learnt_accuracy']:>9.4f}{entry['best_update']:>9,}{entry['seconds']:>9.0f}"
        )
    most = max(entries, key=lambda entry: entry["labelled"])
    by_frame = " ".join(f"{accuracy:.3f}" for accuracy in most["by_frame"])
    return "\n".join([*lines, f"  from each frame alone, with {most['labelled']:,}: {by_frame}"])
