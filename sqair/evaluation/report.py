# SPDX-License-Identifier: GPL-3.0-or-later
"""An evaluation as one HTML file with everything in it: it runs no script and asks for nothing from elsewhere."""

import base64
import os
from typing import NamedTuple

import jinja2

from sqair.evaluation import curves, evaluations, visualization
from sqair.evaluation.quantities import BOXES, IOU, TRACKING, in_order

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_SCORES = dict(
    TRACKING, false_positives="false positives", mostly_tracked="mostly tracked", mostly_lost="mostly lost"
)


class Strip(NamedTuple):
    """A picture of a sequence."""

    png: bytes
    caption: str


class Section(NamedTuple):
    """Pictures below a title."""

    title: str
    text: str
    strips: list  # of `Strip`


def render(entry, title, sections=(), training=None):
    """The report.

    Args:
        entry: dict as of `evaluations.evaluate`.
        title: str, what to call the model.
        sections: list of `Section`, e.g. good cases and bad ones.
        training: rows as of `curves.read`; None where there are none.

    Returns:
        Str, an HTML file.

    Raises:
        UserError: if the entry lacks something or holds what is no number.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
    )
    with evaluations.reading(entry):
        content = {
            "title": title,
            "summary": _summary(entry),
            "facts": _facts(entry),
            "quantities": [_quantity(*found) for found in in_order(entry)],
            "tracking": _tracking(entry) if entry["objects"] else None,
            "confusions": list(_confusions(entry)),
            "plots": [
                {
                    "title": "Frame by frame",
                    "text": "Means over sequences, with two standard errors on both sides.",
                    "pictures": list(_frame_plots(entry)),
                },
                {
                    "title": "Training",
                    "text": "Validation while it was trained, on as many frames as it was trained on at the time.",
                    "pictures": list(_training_plots(training or [])),
                },
            ],
        }
    strips = [dict(s._asdict(), pictures=list(map(_strip, s.strips))) for s in sections]
    return environment.get_template("report.html").render(content, strips=strips)


def _summary(entry):
    (_, title, _, whole, whole_error, _), *_ = in_order(entry)
    bound, right = entry["estimates"]["normalised_iwae"], entry["estimates"].get("num_step_acc")
    text = (
        f"The {title} is {_with_error(bound['mean'], bound['standard_error'], ',.1f')} nats per frame,"
        f" {_with_error(whole, whole_error, ',.0f')} per sequence"
    )
    if right is None:
        why = (
            "no objects are annotated to count"
            if "num_steps" in entry["estimates"]
            else "it counts no objects"
        )
        return f"{text}; {why}."
    return (
        f"{text}; objects are counted right in {_with_error(right['mean'], right['standard_error'], '.1%')} of the"
        " frames."
    )


def _facts(entry):
    updates = "unknown" if entry["step"] is None else f"{entry['step']:,}"
    return [
        ("checkpoint", entry["checkpoint"]),
        ("updates", updates),
        ("data", f"{entry['split']}, digest {entry['data']}"),
        ("sequences", f"{entry['sequences']:,}"),
        ("frames of each (T)", f"{entry['frames']:,}"),
        ("particles (K)", f"{entry['particles']:,}"),
        ("seed", entry["seed"]),
        ("digest of the weights", entry["weights"]),
    ]


def _quantity(name, title, unit, mean, error, by_frame):
    shown = {"mean": mean, "first": by_frame[0], "last": by_frame[-1]}
    cells = {key: _number(value, ".4g") for key, value in shown.items()}
    return dict(cells, title=title, unit=unit, error=_number(error, ".2g"))


def _tracking(entry):
    scores, ari = entry["objects"], entry["objects"]["foreground_ari"]
    return {
        "caption": f"The first {entry['tracked']:,} sequences, pairs of an IoU of at least {IOU}, inside the image;"
        " boxes around what is drawn (tight) and of whole glimpses.",
        "columns": list(BOXES.values()),
        "rows": [
            (title, [_number(scores[kind][name], ".4g") for kind in BOXES]) for name, title in _SCORES.items()
        ],
        "segmentation": f"Segmentation: FG-ARI {_number(ari, '.4g')}, of whole videos, over the"
        f" {scores['foreground_ari_videos']:,} with two objects in sight.",
    }


def _confusions(entry):
    """One table for each kind of object; none where nothing is annotated."""
    tables = {
        "frames, all objects": entry["confusion"],
        "frames, visible objects": entry["visible_confusion"],
    }
    annotated = "num_step_acc" in entry["estimates"]
    for caption, rows in tables.items():
        if bool(rows) != annotated:
            raise ValueError("it has no counts")
        if annotated:
            yield {"caption": caption, "rows": [[f"{value:,.0f}" for value in row] for row in rows]}


def _frame_plots(entry):
    for panel in curves.frame_panels(entry):
        told = "; ".join(
            f"{label} from {mean[0]:.4g} to {mean[-1]:.4g}" for label, (mean, _) in panel.lines.items()
        )
        alt = f"{panel.title} over the {entry['frames']} frames, {panel.unit}: {told}."
        yield _picture(visualization.to_png(curves.frame_figure(panel)), alt)


def _training_plots(rows):
    for name in curves.panels([rows]) if rows else ():
        (title, unit), first, last = curves.training_title(name), rows[0], rows[-1]
        alt = (
            f"{title} on validation data, {unit}: from {first[name]:.4g} after {first['step']:,}"
            f" updates to {last[name]:.4g} after {last['step']:,}."
        )
        yield _picture(visualization.to_png(curves.training_panel(rows, name)), alt)


def _strip(strip):
    alt = f"Frames above the model's reconstructions, boxes coloured by object. {strip.caption}"
    return dict(_picture(strip.png, alt), caption=strip.caption)


def _picture(png, alt):
    return {"source": "data:image/png;base64," + base64.b64encode(png).decode(), "alt": alt}


def _number(value, form):
    return "undefined" if value is None else format(value, form)


def _with_error(mean, error, form):
    """A mean and its standard error, None of a single sequence."""
    return _number(mean, form) + ("" if error is None else f" ± {error:{form}}")
