# SPDX-License-Identifier: GPL-3.0-or-later
"""The sequences that a report shows of an evaluation: what its checkpoint explains well and badly."""

import os

from sqair.errors import UserError
from sqair.evaluation import cases, evaluations, gallery, opening, report
from sqair.training import checkpoints

_PARTICLES_AT_ONCE = 50


def sections(folder, entry, count, num_sequences, checkpoint=None, changes=None, progress=None):
    """Good and bad sequences of an evaluation, as a report shows them.

    Args:
        folder: str, of the run.
        entry: dict as of `evaluations.evaluate`.
        count: int, how many good and how many bad sequences.
        num_sequences: int, among how many of the first.
        checkpoint: path of the checkpoint that was evaluated; the run's of that name by default.
        changes: dict of flags as of `opening.open_run`.
        progress: an object with `update(number of sequences)`; None for none.

    Returns:
        List of `report.Section`.

    Raises:
        UserError: if the checkpoint is gone, or it or the data are not those that were evaluated.
    """
    path = checkpoint or os.path.join(folder, "checkpoints", os.path.basename(entry["checkpoint"]))
    if not os.path.exists(path + ".index"):
        raise UserError(
            f"Checkpoint {path}, which was evaluated, is not there; name it with `checkpoint`, or give `cases=0` for a"
            " report without pictures of sequences."
        )
    found = checkpoints.of_run_or_path(path)
    together = entry["bound"] == "fivo"
    parts = 1 if together else evaluations.parts_of(entry["particles"], _PARTICLES_AT_ONCE)
    changes = dict(changes or {}, k_particles=entry["particles"] // parts)
    model, _ = opening.open_run(folder, found, bound=entry["bound"], **changes)
    split, frames = entry["split"], entry["frames"]
    request = evaluations.make_request(model, found, parts, split, num_sequences, frames)
    for name, what in (
        ("weights", f"Checkpoint {path} has other weights"),
        ("data", "The data set is another one"),
    ):
        if getattr(request, name) != entry[name]:
            raise UserError(f"{what} than what was evaluated; name the right one, or give `cases=0`.")
    ranking = cases.bounds(model, split, num_sequences, frames, parts, progress)
    groups = [("Well explained", ranking.best(count)), ("Badly explained", ranking.worst(count))]
    return [_section(model, title, numbers, ranking, split, frames) for title, numbers in groups]


def _section(model, title, numbers, ranking, split, frames):
    seen = cases.predict(model, split, numbers, frames)
    strips = []
    for i, number in enumerate(numbers):
        caption = f"Sequence {number}: the bound is {ranking.bound[number]:.1f} nats per frame."
        strips.append(report.Strip(gallery.tracking_png(seen.of([i])), caption))
    most = "highest, of those that show an object" if title.startswith("Well") else "lowest"
    text = f"The sequences whose bound is the {most}, among the first {len(ranking.bound):,}."
    return report.Section(title, text, strips)
