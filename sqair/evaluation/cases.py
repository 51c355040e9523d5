# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sequences a model explains best and worst, by its bound, and what it sees in them."""

from typing import Any, NamedTuple

import numpy as np

from sqair.errors import UserError
from sqair.evaluation.prediction import Prediction


class Bounds(NamedTuple):
    """How well each of B sequences is explained."""

    bound: Any  # [B] the model's bound, IWAE or FIVO, nats per frame
    shows_objects: Any  # [B] bool, whether an object is annotated or found in it

    def best(self, count):
        """Numbers of the sequences of the highest bound, best first: of those that show objects, if any do.

        An empty sequence is explained best, and shows nothing.
        """
        numbers = (
            np.flatnonzero(self.shows_objects) if np.any(self.shows_objects) else np.arange(len(self.bound))
        )
        return [int(n) for n in numbers[np.argsort(-self._ordered()[numbers], kind="stable")][:count]]

    def worst(self, count):
        """Numbers of the sequences of the lowest bound, worst first."""
        return [int(n) for n in np.argsort(self._ordered(), kind="stable")[:count]]

    def _ordered(self):
        return np.where(np.isnan(self.bound), -np.inf, self.bound)


def bounds(evaluator, split, num_sequences, seq_len=None, parts=1, progress=None):
    """The `Bounds` of the first sequences of a split.

    Args:
        evaluator: `sqair.evaluation.evaluator.Evaluator`.
        split: str, which data set.
        num_sequences: int.
        seq_len: int, frames of each sequence; all by default.
        parts: int, how many times the settings' particles are drawn.
        progress: an object with `update(number of sequences)`; None for none.
    """
    bound, shows_objects = [], []
    for batch in evaluator.statistics(split, num_sequences, seq_len, parts):
        bound.append(batch.log_mean_weight[-1] / len(batch.log_mean_weight))
        found = np.sum(batch.count_prob[..., 1:], axis=-1) > 0.5
        shows_objects.append(np.any(found | (batch.true_count > 0), axis=0))
        if progress is not None:
            progress.update(len(bound[-1]))
    return Bounds(np.concatenate(bound), np.concatenate(shows_objects))


def predict(evaluator, split, numbers, seq_len=None):
    """What the model sees in some sequences of a split.

    Args:
        evaluator: `sqair.evaluation.evaluator.Evaluator`.
        split: str, which data set.
        numbers: list of int, from 0, at least one.
        seq_len: int, frames of each sequence; all by default.

    Returns:
        `Prediction` of the sequences in this order; it does not depend on which are asked for together.

    Raises:
        UserError: if there is no such sequence.
    """
    most, batch_size = evaluator.data[split].num_sequences, evaluator.settings.batch_size
    seen = []
    for number in numbers:
        if not 0 <= number < most:
            raise UserError(f"There is no sequence {number}: the {split} data has {most}, the first is 0.")
        batch = evaluator.predict(split, number + 1, seq_len, start=number - number % batch_size)
        seen.append(batch.of(slice(-1, None)))
    return Prediction.joined(seen)
