# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the page of `paper_table` with its figures beside it."""

import os

from sqair import files
from sqair.data.pipeline import SequenceDataset
from sqair.evaluation import system_curves, visualization
from sqair.training.reporting import VALID
from sqair.verification import paper_table, reproduction


def write(path, subjects, plan, command):
    """Writes what is known of `reproduction.Subject`s, each file whole or not at all.

    Args:
        path: str, the page.
        subjects: list of `Subject`.
        plan: `reproduction.Plan`.
        command: str, what makes the page.

    Raises:
        UserError: if something can't be written, or is damaged.
    """
    data = SequenceDataset(plan.data_dir, VALID)
    setting = paper_table.Setting(
        frames=data.seq_len,
        few=plan.few,
        many=plan.many,
        few_sequences=plan.few_sequences or data.num_sequences,
        many_sequences=plan.many_sequences or data.num_sequences,
        labelled=max(reproduction.numbers_labelled(plan)),
    )
    measured = {subject.name: subject.measured() for subject in subjects}
    measured = {name: found for name, found in measured.items() if found is not None}
    curves = {paper_table.TITLES[subject.name]: subject.curve() for subject in subjects}
    additions = {paper_table.TITLES[name]: found.additions for name, found in measured.items()}
    drawn = (
        ("Bound by hours", "hours", system_curves.hours_figure, {k: v for k, v in curves.items() if v[0]}),
        ("Addition by labels", "addition", system_curves.addition_figure, {k: v for k, v in additions.items() if v}),
    )  # fmt: skip
    figures, stem = {}, os.path.splitext(path)[0]
    with files.writing(path):
        files.make_folder(os.path.dirname(path) or ".")
    for title, ending, draw, content in drawn:
        if content:
            figures[title] = f"{os.path.basename(stem)}_{ending}.png"
            with files.atomic_write(f"{stem}_{ending}.png", "wb") as file:
                file.write(visualization.to_png(draw(content)))
    with files.atomic_write(path) as file:
        file.write(paper_table.page(measured, setting, figures, command))
