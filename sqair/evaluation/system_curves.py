# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures that compare systems: the addition task by the number of labels, the bound by the time trained."""

from sqair.evaluation.curves import COLOURS, blank_figure, tidy

SIZE = 5.0, 3.4  # inches


def addition_figure(systems):
    """Accuracy of the addition task against the number of labelled sequences, with two standard errors.

    Args:
        systems: dict of label -> entries as of `addition.answer`, of one checkpoint.

    Returns:
        A matplotlib `Figure`.
    """
    figure, axes = _figure()
    for (label, entries), colour in zip(systems.items(), COLOURS):
        entries = sorted(entries, key=lambda entry: entry["labelled"])
        axes.errorbar(
            [entry["labelled"] for entry in entries],
            [entry["accuracy"] for entry in entries],
            yerr=[2 * entry["standard_error"] for entry in entries],
            color=colour,
            marker=".",
            linewidth=1.5,
            capsize=2,
            label=label,
        )
    axes.set_xscale("log")
    axes.set_xlabel("labelled sequences")
    axes.set_ylabel("accuracy of addition")
    axes.set_ylim(0, 1.02)
    return _finished(figure, axes)


def hours_figure(systems):
    """The bound on validation data against the hours trained.

    Args:
        systems: dict of label -> pair of lists, hours and nats per frame.

    Returns:
        A matplotlib `Figure`.
    """
    figure, axes = _figure()
    for (label, (hours, bounds)), colour in zip(systems.items(), COLOURS):
        axes.plot(hours, bounds, color=colour, marker=".", linewidth=1.5, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("hours trained")
    axes.set_ylabel("bound, nats per frame")
    return _finished(figure, axes)


def _figure():
    figure = blank_figure(*SIZE, dpi=120)
    return figure, figure.add_subplot(1, 1, 1)


def _finished(figure, axes):
    tidy(axes)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure
