# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's table of five systems on moving MNIST, and a page that has what was measured here beside it."""

from collections import OrderedDict
from typing import Any, NamedTuple, Optional

CAVEAT = "as remembered; not re-read"  # of the paper's figures, wherever they are shown
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
_ABOUT_ERRORS = (
    "Standard errors of differences are those of systems that were measured on different sequences. They share theirs,"
    " so that what these say is cautious."
)
SAME_TIME = 1.2  # so many times the hours are about as many
PRECISION = dict(counting=4, addition=4)  # digits after the point; of nats none


class Number(NamedTuple):
    """A mean with its standard error, None where there is none."""

    mean: float
    error: Optional[float] = None


# Nats per sequence of 10 frames; bounds with 1,000 particles, by arithmetic.
PAPER = {
    "mlp_sqair": dict(bound=6617.6, data_ll=6786.5, kl=164.5, counting=0.9986, addition=0.9998),
    "conv_sqair": dict(bound=6784.8, data_ll=6923.8, kl=134.6, counting=0.9974, addition=0.9990),
    "mlp_air": dict(bound=6443.6, data_ll=6830.6, kl=352.6, counting=0.9058, addition=0.8644),
    "conv_vrnn": dict(bound=6561.9, data_ll=6737.8, kl=270.2, addition=0.8536),
    "mlp_vrnn": dict(bound=5959.3, data_ll=6108.7, kl=218.3, addition=0.8059),
}

# What is to come out: (quantity, the system that is to be higher, the one that is to be lower).
ORDER = [
    *((quantity, sqair, "mlp_air")
      for quantity in ("bound", "bound_few", "elbo", "counting", "addition") for sqair in ("mlp_sqair", "conv_sqair")),
    *(("addition", higher, vrnn)
      for vrnn in ("conv_vrnn", "mlp_vrnn") for higher in ("mlp_sqair", "conv_sqair", "mlp_air")),
]  # fmt: skip


class Measured(NamedTuple):
    """What was measured of a system; None where it was not, or not yet."""

    hours: Optional[float]  # trained, wall-clock
    hours_from: str  # where they come from
    updates: Optional[int]
    numbers: Any  # dict of quantity -> Number


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
        f" the paper's figures, {CAVEAT}. The others were measured here; the last command that went on with it was",
        "",
        f"    {command}",
        "",
        f"± one standard error over sequences. `log p(x)` is a bound, comparable only for the same K: K ="
        f" {setting.many:,} on the first {setting.many_sequences:,} sequences, K = {setting.few:,} on"
        f" {setting.few_sequences:,}. Its parts, `log p(x given z)` and `KL`, are with K = {setting.many:,}, the share"
        f" of frames with the right number of digits and the ELBO with K = {setting.few:,}. Addition is the share of"
        f" sequences with two digits whose sum a classifier tells that has learnt from {setting.labelled:,} others."
        " Bounds of VRNNs are FIVO's, of the others IWAE's. SQAIR weighs K whole sequences, AIR, whose frames are"
        " independent, K particles of each frame: for the same K its bound is nearer to log p(x). The ELBO has no K.",
        "",
        "| | hours | updates | " + " | ".join(titles) + " |",
        "| --- |" + " --- |" * (len(QUANTITIES) + 2),
    ]
    for name, title in TITLES.items():
        lines += _rows(name, title, measured.get(name))
    lines += ["", *_about_hours(measured), "", "## Did the order come out?", ""]
    lines += [_ABOUT_ERRORS, ""]
    lines += ["| what | above | below | came out |", "| --- | --- | --- | --- |"]
    lines += [_verdict_row(verdict, setting) for verdict in verdicts(measured)]
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
    yield f"| {title} | " + " | ".join(ours) + " |"
    yield (
        "| *the paper* | *not said* | *not said* | "
        + " | ".join(f"*{x}*" if x else "" for x in reported)
        + " |"
    )


def _shown(quantity, number):
    if number is None:
        return ""
    digits = PRECISION.get(quantity, 0)
    error = "" if number.error is None else f" ± {number.error:,.{max(digits, 1)}f}"
    return f"{number.mean:,.{max(digits, 1)}f}{error}"


def _about_hours(measured):
    yield "Hours are of wall-clock time."
    for name, one in measured.items():
        yield f"{TITLES[name]}: {one.hours_from}."
    hours = [one.hours for one in measured.values() if one.hours is not None]
    if hours and max(hours) > SAME_TIME * min(hours):
        yield "They were not trained for the same time; a figure has the bounds on the way."


def _verdict_row(verdict, setting):
    outcome = {None: "not measured", True: "yes", False: "**no**"}[verdict.holds]
    if verdict.errors is not None:
        outcome += f", by {verdict.errors:.1f} standard errors"
    particles = dict(bound=setting.many, bound_few=setting.few).get(verdict.quantity)
    what = QUANTITIES[verdict.quantity] if particles is None else f"{QUANTITIES['bound']}, K = {particles:,}"
    return f"| {what} | {TITLES[verdict.higher]} | {TITLES[verdict.lower]} | {outcome} |"
