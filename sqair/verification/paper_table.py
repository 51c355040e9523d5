# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's table of five systems on moving MNIST, and a page that has what was measured here beside it."""

import itertools
from collections import OrderedDict
from typing import Any, NamedTuple, Optional

CAVEAT = "from memory, not checked against the paper"  # of its figures, wherever they are shown
TITLES = OrderedDict(
    mlp_sqair="MLP-SQAIR",
    conv_sqair="CONV-SQAIR",
    mlp_air="MLP-AIR",
    conv_vrnn="CONV-VRNN",
    mlp_vrnn="MLP-VRNN",
)
QUANTITIES = OrderedDict(
    bound="log p(x)",
    bound_few="the same, K = {few:,}",
    elbo="ELBO",
    data_ll="log p(x given z)",
    kl="KL",
    counting="counting",
    addition="addition",
)
_ABOUT_ORDER = (
    "All pairs that the paper's figures put in an order, the higher one first (those of `log p(x)` stand for the ELBO"
    " as well), and whether ours have the same order; in brackets by how many standard errors they differ. These are"
    " computed as if the two had been measured on different sequences. They were measured on the same ones, so the true"
    " errors are probably smaller. –: one of them was not measured, or has no such number; empty: the paper has none,"
    " or the opposite order."
)
_ABOUT_ADDITION = (
    "How addition was measured differs from the paper, which trains for 1e7 iterations: the classifier sees one frame"
    " at a time, and its log-probabilities are averaged over frames; a tenth of the labelled sequences is held out, and"
    " the weights that classify these best are taken, averaged over about 1,000 updates. Errors are over the sequences"
    " tested; another draw of labels or of the classifier's first weights is not in them."
)
_ABOUT_VRNN_ROWS = (
    "The paper's two rows of VRNNs do not agree with themselves as quoted: of importance-weighted means, log p(x given"
    " z) less KL is never below the bound, as it is there, by 94 and 69 nats. A figure is misremembered, or was"
    " measured in another way."
)
BY_FRAME = dict(normalised_iwae="log p(x)", kl="KL")  # estimates of an evaluation
SAME_TIME = 1.2  # so many times the hours are about as many
PRECISION = dict(counting=4, addition=4)  # digits after the point; of nats none


class Number(NamedTuple):
    """A mean with its standard error, None where there is none."""

    mean: float
    error: Optional[float] = None


# Nats per sequence of 10 frames; bounds with 1,000 particles as remembered, 82 or more by arithmetic.
PAPER = {
    "mlp_sqair": dict(bound=6617.6, data_ll=6786.5, kl=164.5, counting=0.9986, addition=0.9998),
    "conv_sqair": dict(bound=6784.8, data_ll=6923.8, kl=134.6, counting=0.9974, addition=0.9990),
    "mlp_air": dict(bound=6443.6, data_ll=6830.6, kl=352.6, counting=0.9058, addition=0.8644),
    "conv_vrnn": dict(bound=6561.9, data_ll=6737.8, kl=270.2, addition=0.8536),
    "mlp_vrnn": dict(bound=5959.3, data_ll=6108.7, kl=218.3, addition=0.8059),
}
_COMPARED = dict(bound="bound", bound_few="bound", elbo="bound", counting="counting", addition="addition")


def _order(quantity):
    """The pairs of systems that a quantity of the paper puts in order, the higher one first."""
    known = [name for name in PAPER if quantity in PAPER[name]]
    return itertools.combinations(sorted(known, key=lambda name: -PAPER[name][quantity]), 2)


# (quantity, the system that is higher in the paper, the one that is lower).
ORDER = [(quantity, *pair) for quantity, reported in _COMPARED.items() for pair in _order(reported)]


class Measured(NamedTuple):
    """What was measured of a system; None where it was not, or not yet."""

    hours: Optional[float]  # trained, wall-clock
    hours_from: str  # where they come from
    updates: Optional[int]
    numbers: Any  # dict of quantity -> Number
    additions: Any = ()  # entries of the addition task
    by_frame: Any = {}  # dict of one of `BY_FRAME` -> nats of each frame, a list


class Setting(NamedTuple):
    """How all systems were evaluated."""

    frames: int
    few: int  # particles
    many: int
    few_sequences: int
    many_sequences: int
    labelled: int  # sequences, the most that a classifier learnt from


class Verdict(NamedTuple):
    """Whether one of `ORDER` came out."""

    quantity: str
    higher: str
    lower: str
    holds: Optional[bool]  # None: not measured
    errors: Optional[float]  # by how many standard errors, as if of different sequences


def verdicts(measured):
    """Which order came out.

    Args:
        measured: dict of system -> `Measured`.

    Returns:
        List of `Verdict`, one for each of `ORDER`.
    """
    found = []
    for quantity, higher, lower in ORDER:
        pair = [
            measured[name].numbers.get(quantity) if name in measured else None for name in (higher, lower)
        ]
        if None in pair:
            found.append(Verdict(quantity, higher, lower, None, None))
            continue
        difference = pair[0].mean - pair[1].mean
        error = sum((number.error or 0.0) ** 2 for number in pair) ** 0.5
        found.append(
            Verdict(quantity, higher, lower, difference > 0, abs(difference) / error if error else None)
        )
    return found


def page(measured, setting, figures, command):
    """The page: the paper's table with ours beside it, what came out, and the figures.

    Args:
        measured: dict of system -> `Measured`, those that there are.
        setting: `Setting`.
        figures: dict of title -> path of an image, from where the page is.
        command: str, what makes it.

    Returns:
        str, Markdown.
    """
    titles = [title.format(few=setting.few) for title in QUANTITIES.values()]
    lines = [
        "# The paper's table",
        "",
        f"Moving multi-MNIST, validation sequences of {setting.frames} frames, nats per sequence. Lines in italics are"
        f" the paper's figures, {CAVEAT}. The others were measured here; the page was last written by",
        "",
        f"    {command}",
        "",
        f"± one standard error over sequences. `log p(x)` is a bound, comparable only for the same K: K ="
        f" {setting.many:,} on the first {setting.many_sequences:,} sequences, K = {setting.few:,} on"
        f" {setting.few_sequences:,}. Its parts, `log p(x given z)` and `KL`, are with K = {setting.many:,}, the share"
        f" of frames with the right number of digits and the ELBO with K = {setting.few:,}. Addition is the share of"
        " sequences with two digits for which a classifier, trained on the latents of"
        f" {setting.labelled:,} others, gives the right sum. Bounds of VRNNs are FIVO, of the others IWAE. SQAIR draws"
        " K whole sequences, AIR draws K particles for each frame separately: with the same K, AIR's bound is tighter."
        " The ELBO does not depend on K.",
        "",
        *_head("system", "hours", "updates", *titles),
    ]
    for name, title in TITLES.items():
        lines += _rows(name, title, measured.get(name))
    lines += ["", *_about_hours(measured), "", _ABOUT_VRNN_ROWS]
    lines += ["", "## Did the order come out?", "", _ABOUT_ORDER, "", *_order_table(measured, setting)]
    lines += ["", "## Frame by frame", "", *_frame_tables(measured, setting)]
    lines += ["", "## Addition", "", _ABOUT_ADDITION, "", *_addition_tables(measured, setting)]
    for title, path in figures.items():
        lines += ["", f"## {title}", "", f"![{title}]({path})"]
    return "\n".join(lines) + "\n"


def _rows(name, title, measured):
    paper = PAPER[name]
    reported = [format(paper[q], f".{PRECISION.get(q, 1)}f") if q in paper else "" for q in QUANTITIES]
    if measured is None:
        ours = ["not trained", ""] + [""] * len(QUANTITIES)
    else:
        hours = "unknown" if measured.hours is None else f"{measured.hours:.2f}"
        updates = "unknown" if measured.updates is None else f"{measured.updates:,}"
        ours = [hours, updates, *(_shown(q, measured.numbers.get(q)) for q in QUANTITIES)]
    yield _row(title, *ours)
    yield _row("*the paper*", "*not said*", "*not said*", *(f"*{x}*" if x else "" for x in reported))


def _shown(quantity, number):
    if number is None:
        return ""
    digits = PRECISION.get(quantity, 0)
    error = "" if number.error is None else f" ± {number.error:,.{max(digits, 1)}f}"
    return f"{number.mean:,.{max(digits, 1)}f}{error}"


def _about_hours(measured):
    known = "; ".join(f"{TITLES[name]} {one.hours_from}" for name, one in measured.items())
    yield f"Hours are of wall-clock time: {known}."
    hours = [one.hours for one in measured.values() if one.hours is not None]
    if hours and max(hours) > SAME_TIME * min(hours):
        yield "They were not trained for the same time; a figure has the bounds on the way."


def _order_table(measured, setting):
    cells = {}
    for verdict in verdicts(measured):
        outcome = {None: "–", True: "yes", False: "**no**"}[verdict.holds]
        errors = "" if verdict.errors is None else f" ({verdict.errors:.1f})"
        cells.setdefault((verdict.higher, verdict.lower), {})[verdict.quantity] = outcome + errors
    particles = dict(bound=setting.many, bound_few=setting.few)
    titles = [
        f"{QUANTITIES['bound']}, K = {particles[q]:,}" if q in particles else QUANTITIES[q] for q in _COMPARED
    ]
    yield from _head("above", "below", *titles)
    for (higher, lower), found in cells.items():
        yield _row(TITLES[higher], TITLES[lower], *(found.get(quantity, "") for quantity in _COMPARED))


def _frame_tables(measured, setting):
    """The bound and KL of each frame."""
    for estimate, title in BY_FRAME.items():
        yield f"{title} in nats, K = {setting.few:,}:"
        yield ""
        yield from _head("frame", *range(1, setting.frames + 1))
        for name, one in measured.items():
            if estimate in one.by_frame:
                yield _row(TITLES[name], *(f"{x:,.1f}" for x in one.by_frame[estimate]))
        yield ""
    yield "A frame's share of SQAIR's bound is the bound of all frames up to it less that of the frames before it."


def _addition_tables(measured, setting):
    """What classifiers tell by the number of labels, and with all of them from each frame alone."""
    known = {TITLES[name]: one.additions for name, one in measured.items() if one.additions}
    counts = sorted({entry["labelled"] for entries in known.values() for entry in entries})
    if not counts:
        yield "Not measured yet."
        return
    yield from _head("labelled sequences", *(f"{count:,}" for count in counts))
    for title, entries in known.items():
        found = {entry["labelled"]: Number(entry["accuracy"], entry["standard_error"]) for entry in entries}
        yield _row(title, *(_shown("addition", found.get(count)) for count in counts))
    yield ""
    yield f"With {setting.labelled:,}, the accuracy when the classifier sees one frame alone, and what training took:"
    yield ""
    yield from _head("frame", *range(1, setting.frames + 1), "best after updates", "seconds")
    for title, entries in known.items():
        for entry in entries:
            if entry["labelled"] == setting.labelled:
                shares = [f"{share:.3f}" for share in entry["by_frame"]]
                took = [f"{entry['best_update']:,}", f"{entry['seconds']:.0f}"]
                yield _row(title, *shares, *took)


def _head(*titles):
    """The first two lines of a table in Markdown."""
    return [_row(*titles), _row(*["---"] * len(titles))]


def _row(*cells):
    return "| " + " | ".join(map(str, cells)) + " |"
