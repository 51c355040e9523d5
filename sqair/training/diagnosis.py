# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells from what a training reports when it goes wrong in one of the known ways, and which argument to change."""

import numpy as np

WINDOW = 10  # reports that are looked at together
NOTHING = (
    0.1  # objects per frame that count as none; a model that finds nothing still tries some now and then
)
NONE_KEPT = 0.02  # share of the objects that counts as none of them
FULL = 0.98  # share of the slots that counts as all
FALL = 30.0  # nats per frame by which the bound may lie below what it was

NOTHING_FOUND = (
    "nothing is found: {found:.2f} objects per frame in the last {reports} reports; raise `disc_step_bias`, or lower"
    " `output_std`"
)
ALWAYS_FULL = (
    "all slots are always full: {found:.2f} objects per frame in the last {reports} reports; lower `disc_step_bias`"
    "{or_prop_step_bias}, or raise `output_std`"
)
NOT_PROPAGATED = (
    "nothing is propagated: {found:.2f} objects per frame are found, each anew, in the last {reports} reports; lower"
    " `learning_rate`, or raise `prop_step_bias` and `prop_prior_step_bias`"
)
BOUND_FALLS = (
    "the bound falls: {bound:.0f} nats per frame in the last {reports} reports, after {best:.0f} for as many frames;"
    " lower `learning_rate`{or_clip_norm}"
)


class Diagnosis:
    """Remembers the reports of training batches; `add` tells what has begun to go wrong since the report before."""

    def __init__(self, n_steps, keeps_ids=True, may_use_vimco=True, window=WINDOW):
        """Sets it up.

        Args:
            n_steps: int N, slots; 0 if the model knows no objects.
            keeps_ids: bool, whether objects are propagated.
            may_use_vimco: bool, whether `estimator=vimco` can be advised: it works and is not in use.
            window: int, reports that are looked at together.
        """
        self._n_steps, self._keeps_ids, self._window = n_steps, keeps_ids, window
        self._reports, self._known = [], set()
        self._seq_len, self._best = None, -np.inf
        vimco = n_steps and may_use_vimco  # without objects nothing discrete is estimated
        self._advice = dict(
            or_prop_step_bias=" or `prop_step_bias`" if keeps_ids else "",
            or_clip_norm=", set `clip_norm`, or use `estimator=vimco`" if vimco else ", or set `clip_norm`",
        )

    def add(self, numbers):
        """Takes a report.

        Args:
            numbers: mapping with "seq_len", "normalised_iwae" and, of objects, "raw_num_steps", "raw_num_prop_steps" of
                one batch.

        Returns:
            List of sentences, arguments between backticks; each symptom is told once, until it is gone.
        """
        if numbers["seq_len"] != self._seq_len:  # bounds of other lengths do not compare
            self._seq_len, self._reports, self._best = numbers["seq_len"], [], -np.inf
        self._reports = self._reports[-self._window + 1 :] + [numbers]
        if len(self._reports) < self._window:
            return []
        mean = {name: np.mean([report[name] for report in self._reports]) for name in numbers}
        bound = mean["normalised_iwae"]
        self._best = max(self._best, bound)
        symptoms = {BOUND_FALLS: bound < self._best - FALL}
        values = dict(self._advice, reports=self._window, bound=bound, best=self._best)
        if self._n_steps:
            found, kept = mean["raw_num_steps"], mean["raw_num_prop_steps"]
            propagates = self._keeps_ids and self._seq_len > 1
            symptoms[NOTHING_FOUND] = found < NOTHING
            symptoms[ALWAYS_FULL] = found > FULL * self._n_steps
            symptoms[NOT_PROPAGATED] = propagates and found > 2 * NOTHING and kept < NONE_KEPT * found
            values["found"] = found
        here = {text for text, holds in symptoms.items() if holds}
        new, self._known = here - self._known, here
        return [text.format(**values) for text in symptoms if text in new]
