# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluations of checkpoints: carried out, resumed where they were cut, kept in a folder.

evaluation.json         what was found, one entry for each checkpoint and way of evaluating
evaluation.csv          the same, a row for each number
evaluation.partial.npz  what is known of an evaluation that is not complete
"""

import contextlib
import json
import math
import os
import time
import zipfile
import zlib
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from sqair.errors import UserError
from sqair.evaluation import quantities, sequence_statistics
from sqair.evaluation.entries import Entries, Kind
from sqair.evaluation.object_report import SCORING, object_report
from sqair.evaluation.sequence_statistics import SequenceStatistics
from sqair.files import atomic_write
from sqair.model.sequence_bounds import WholeSequences
from sqair.training import checkpoints

JSON, CSV, PARTIAL = "evaluation.json", "evaluation.csv", "evaluation.partial.npz"
KEEP_SECONDS = 60.0  # between copies of what is known
# Errors of reading such a copy.
_NONE_OR_DAMAGED = OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error


class Request(NamedTuple):
    """What is evaluated; two that are equal give the same numbers."""

    checkpoint: str  # its name
    step: int  # updates, None if it does not say
    weights: str  # digest of its values
    data: str  # digest of the data
    split: str
    sequences: int
    frames: int
    particles: int
    seed: int
    tracked: int  # sequences that tracking is scored on, the first ones
    scoring: int  # version of how that is done; scores of others do not compare
    bound: str  # its name; "iwae" where older entries say none


def make_request(evaluator, checkpoint, parts, split, num_sequences=0, seq_len=0, tracked=0):
    """The `Request` to evaluate a `Checkpoint` on the first sequences of a split, or all, in full length by default.

    Tracking is scored where objects are annotated and the model follows them, on at most as many sequences.

    Raises:
        UserError: if there are not as many sequences or frames, or the model's particles cannot come in parts.
    """
    data, settings = evaluator.data[split], evaluator.settings
    for name, value, most in (
        ("num_sequences", num_sequences, data.num_sequences), ("seq_len", seq_len, data.seq_len)
    ):  # fmt: skip
        if value > most:
            raise UserError(f"`{name}={value}` is refused: the {split} data has {most}.")
    if parts > 1 and not evaluator.bound.joins:
        raise UserError(
            f"`particles_at_once={settings.k_particles}` is refused: this model resamples its particles, so that they"
            f" must be in memory together; set it to {settings.k_particles * parts}."
        )
    follows = data.max_objects and evaluator.n_steps and evaluator.bound.keeps_ids
    return Request(
        checkpoint=os.path.basename(checkpoint.path),
        step=checkpoint.step,
        weights=checkpoints.digest(checkpoint.values),
        data=digest_of(data),
        split=split,
        sequences=num_sequences or data.num_sequences,
        frames=seq_len or data.seq_len,
        particles=settings.k_particles * parts,
        seed=settings.seed,
        tracked=min(tracked, num_sequences or data.num_sequences) if follows else 0,
        scoring=SCORING,
        bound=evaluator.bound.name,
    )


def digest_of(data):
    """A short fingerprint of a `SequenceDataset`, by its sizes and its mean image: str."""
    return checkpoints.fingerprint(
        {repr((data.num_sequences, data.seq_len, data.image_shape)): data.mean_image()}
    )


@contextlib.contextmanager
def reading(entry):
    """Within it, an entry that lacks something or holds what is no number raises a `UserError`."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"The evaluation of {entry.get('checkpoint')!r} is damaged or of another version"
            f" ({type(error).__name__}: {error}); remove it from {JSON} and evaluate anew."
        ) from None


def choose(entries, number=None):
    """One of the entries of a folder, by its number from 1; the last by default.

    Raises:
        UserError: if there is none.
    """
    if not entries:
        raise UserError("Nothing was evaluated yet; call scripts/evaluate.py first.")
    if number is not None and not 1 <= number <= len(entries):
        known = "; ".join(
            f"{i}: {e['checkpoint']}, {e['sequences']} {e['split']} sequences of {e['frames']} frames,"
            f" K = {e['particles']}"
            for i, e in enumerate(entries, 1)
        )
        raise UserError(f"`entry={number}` is refused: there are these evaluations: {known}.")
    return entries[-1 if number is None else number - 1]


def parts_of(k_particles, at_once):
    """In how many equal parts particles come, the fewest with at most `at_once` each."""
    return next(p for p in range(1, k_particles + 1) if k_particles % p == 0 and k_particles <= p * at_once)


def _check(entry):
    entry.setdefault("bound", WholeSequences.name)
    entry["estimates"].items()


_KIND = Kind(
    json=JSON,
    csv=CSV,
    key="evaluations",
    title="evaluations",
    request=Request,
    check=_check,
    order=lambda entry: (entry["step"] or 0, entry["particles"], entry["sequences"]),
    rows=lambda entries: quantities.csv_rows(entries, Request._fields),
)


class Evaluations(Entries):
    """The evaluations that a folder keeps: dicts as of `evaluate`."""

    def __init__(self, folder):
        """Takes the folder, which must exist."""
        super().__init__(folder, _KIND)

    def keep(self, request, statistics):
        """Writes down what is known of a request: `SequenceStatistics` of its first sequences."""
        with atomic_write(self._path(PARTIAL), "wb") as file:
            np.savez_compressed(file, request=json.dumps(request), **statistics._asdict())

    def begun(self, request):
        """What is known of a request that was cut, `SequenceStatistics`; None if nothing is."""
        try:
            with open(self._path(PARTIAL), "rb") as file, np.load(file, allow_pickle=False) as stored:
                if Request(*json.loads(str(stored["request"]))) != request:
                    return None
                return SequenceStatistics(*(stored[name] for name in SequenceStatistics._fields))
        except _NONE_OR_DAMAGED:
            return None

    def forget(self):
        """Removes what is known of an evaluation that was cut."""
        if os.path.exists(self._path(PARTIAL)):
            os.remove(self._path(PARTIAL))


def evaluate(evaluator, request, parts, evaluations, progress):
    """Carries a request out, from where it was cut, unless it is known already.

    Args:
        evaluator: `sqair.evaluation.evaluator.Evaluator` with the checkpoint's values.
        request: `Request`.
        parts: int, in how many parts the particles are drawn.
        evaluations: `Evaluations` to look in and to add to.
        progress: an object with `update(number of sequences)`.

    Returns:
        The entry: dict of the request's fields, "estimates" (name -> dict of mean, standard_error, by_frame and
        by_frame_error), "confusion" and "visible_confusion" (lists of rows, frames by true and found number), and
        "objects" (as of `object_report`, None if nothing was tracked).
    """
    found = evaluations.find(request)
    if found is not None:
        progress.update(request.sequences)
        return found
    begun = evaluations.begun(request)
    done = [] if begun is None else [begun]
    count = 0 if begun is None else begun.true_count.shape[1]
    kept = time.time()
    try:
        progress.update(count)
        for batch in evaluator.statistics(request.split, request.sequences, request.frames, parts, count):
            done.append(batch)
            count += batch.true_count.shape[1]
            progress.update(batch.true_count.shape[1])
            if time.time() - kept > KEEP_SECONDS:
                evaluations.keep(request, sequence_statistics.join_sequences(done))
                kept = time.time()
    finally:
        if done and count < request.sequences:
            evaluations.keep(request, sequence_statistics.join_sequences(done))
    entry = _entry(request, sequence_statistics.join_sequences(done), evaluator.bound)
    if request.tracked:
        entry["objects"] = _plain(
            object_report(evaluator.predict(request.split, request.tracked, request.frames), quantities.IOU)
        )
    evaluations.add(entry)
    evaluations.forget()
    return entry


def _entry(request, statistics, bound):
    estimates = sequence_statistics.summarise(statistics, bound)
    return dict(
        request._asdict(),
        estimates=OrderedDict(
            (name, _plain(dict(estimates[name]._asdict()))) for name in quantities.TITLES if name in estimates
        ),
        confusion=sequence_statistics.confusion(statistics).tolist(),
        visible_confusion=sequence_statistics.confusion(statistics, visible=True).tolist(),
        objects=None,
    )


def _plain(value):
    """Dicts, lists and numbers, None for what is not finite: JSON has no other way to say it."""
    if isinstance(value, dict):
        return {name: _plain(x) for name, x in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(x) for x in value]
    return value if math.isfinite(value) else None
