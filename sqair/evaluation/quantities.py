# SPDX-License-Identifier: GPL-3.0-or-later
"""What an evaluation holds: its numbers in order, with titles and units, as rows and as a table."""

from collections import OrderedDict

import numpy as np

from sqair.model.sequence_bounds import Filtered

PER_FRAME, PER_SEQUENCE = "nats per frame", "nats per sequence"
TITLES = OrderedDict(
    normalised_iwae=("IWAE bound", PER_FRAME),
    normalised_vae=("ELBO", PER_FRAME),
    data_ll=("log-likelihood", PER_FRAME),
    kl=("KL divergence", PER_FRAME),
    mse=("squared error", "mean over pixels"),
    ess=("effective sample size", "particles"),
    num_steps=("objects", "per frame"),
    num_disc_steps=("discoveries", "per frame"),
    num_prop_steps=("propagations", "per frame"),
    num_step_acc=("right count of all objects", "share of frames"),
    visible_step_acc=("right count of visible objects", "share of frames"),
)
COUNTED = ("num_step_acc", "visible_step_acc")  # only where objects are annotated
OF_OBJECTS = ("num_steps", "num_disc_steps", "num_prop_steps", *COUNTED)  # only of models that know objects
FILTERED_TITLES = dict(normalised_iwae="FIVO bound")  # of particles that were resampled
IOU = 0.5  # least intersection over union of a tracked object with its box
BOXES = OrderedDict(
    tight="tight",
    tight_plain="tight, all objects demanded",
    glimpse="glimpses",
    glimpse_plain="glimpses, all objects demanded",
)
TRACKING = OrderedDict(
    mota="MOTA",
    idf1="IDF1",
    motp="mean IoU",
    switches="switches",
    misses="misses",
    false_positives="false pos.",
    objects="objects",
    mostly_tracked="mostly tr.",
    mostly_lost="m. lost",
)


def in_order(entry):
    """What an entry holds, in the order of a table, the bounds per sequence first.

    Args:
        entry: dict as of `evaluations.evaluate`.

    Yields:
        Tuples of name, title, unit, mean, standard error (None of a single sequence), and list by frame.
    """
    names = [name for name in TITLES if _has(entry, name)]
    for name in [name for name in ("normalised_iwae", "normalised_vae") if name in names]:
        estimate, frames = entry["estimates"][name], entry["frames"]
        error = estimate["standard_error"]
        sums = np.cumsum(estimate["by_frame"]).tolist()
        scaled = None if error is None else error * frames
        yield (
            name.replace("normalised_", ""),
            title_of(name, entry),
            PER_SEQUENCE,
            estimate["mean"] * frames,
            scaled,
            sums,
        )
    for name in names:
        estimate = entry["estimates"][name]
        yield (
            name,
            title_of(name, entry),
            TITLES[name][1],
            estimate["mean"],
            estimate["standard_error"],
            estimate["by_frame"],
        )


def title_of(name, entry):
    """The title of one of an entry's numbers, which depends on its bound."""
    return FILTERED_TITLES.get(name, TITLES[name][0]) if entry["bound"] == Filtered.name else TITLES[name][0]


def _has(entry, name):
    """Whether an entry is to hold a number: resampled particles have no ELBO, some models no objects."""
    if name == "normalised_vae":
        return entry["bound"] != Filtered.name
    return name not in OF_OBJECTS or name in entry["estimates"]


def csv_rows(entries, fields):
    """Rows of a file: a header, then for each number of each entry, after these fields of the entry, what it is.

    Args:
        entries: list of dict as of `evaluations.evaluate`, at least one.
        fields: tuple of str.

    Yields:
        Lists of cells.
    """
    frames = max(entry["frames"] for entry in entries)
    yield [
        *fields,
        "name",
        "unit",
        "mean",
        "standard_error",
        *(f"frame_{t + 1}" for t in range(frames)),
    ]
    for entry in entries:
        for name, _, unit, mean, error, by_frame in in_order(entry):
            yield [*(entry[field] for field in fields), name, unit, mean, error, *by_frame]


def table(entry):
    """An entry as text for a terminal."""
    updates = "an unknown number of" if entry["step"] is None else f"{entry['step']:,}"
    lines = [
        f"{entry['checkpoint']} after {updates} updates: {entry['sequences']:,} {entry['split']} sequences of"
        f" {entry['frames']} frames, K = {entry['particles']:,}",
        f"  {'':48}{'mean':>10} {'std. error':>11} {'first frame':>12} {'last frame':>12}",
    ]
    for _, title, unit, mean, error, by_frame in in_order(entry):
        shown = "" if error is None else f"{error:.2g}"
        lines.append(
            f"  {title + ', ' + unit:48}{mean:>10.5g} {shown:>11} {by_frame[0]:>12.5g} {by_frame[-1]:>12.5g}"
        )
    for name, what in (("confusion", "objects"), ("visible_confusion", "visible objects")):
        if not entry[name]:  # nothing is annotated
            continue
        found = [f"found {n}" for n in range(len(entry[name][0]))]
        lines.append(f"  {'frames with':18}" + "".join(f"{text:>10}" for text in found))
        for true, row in enumerate(entry[name]):
            lines.append(f"    {true} {what:14}" + "".join(f"{value:>10.0f}" for value in row))
    return "\n".join(lines + (_tracking_lines(entry) if entry["objects"] else []))


def _tracking_lines(entry):
    lines = [f"  tracking, {entry['tracked']:,} sequences, IoU at least {IOU}, inside the image"]
    lines.append("    " + f"{'boxes':30}" + "".join(f"{name:>11}" for name in TRACKING.values()))
    for kind, title in BOXES.items():
        scores = entry["objects"][kind]
        cells = ["undefined" if scores[name] is None else f"{scores[name]:.4g}" for name in TRACKING]
        lines.append(f"    {title:30}" + "".join(f"{cell:>11}" for cell in cells))
    ari, videos = (entry["objects"][name] for name in ("foreground_ari", "foreground_ari_videos"))
    shown = "undefined" if ari is None else f"{ari:.4g}"
    return [*lines, f"    FG-ARI {shown}, of whole videos, over the {videos} with two objects in sight"]
