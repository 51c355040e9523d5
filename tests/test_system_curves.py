# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np

from sqair.evaluation import system_curves
from sqair.evaluation.visualization import to_array


def test_accuracies_are_drawn_over_labels_with_two_standard_errors():
    entries = [
        dict(labelled=1000, accuracy=0.9, standard_error=0.01),
        dict(labelled=100, accuracy=0.4, standard_error=0.02),
    ]
    figure = system_curves.addition_figure({"SQAIR": entries, "VRNN": entries[:1]})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["SQAIR", "VRNN"]
    line, _, (bars,) = axes.containers[0].lines
    np.testing.assert_allclose(line.get_xydata(), [[100, 0.4], [1000, 0.9]])
    np.testing.assert_allclose(
        [segment[:, 1] for segment in bars.get_segments()], [[0.36, 0.44], [0.88, 0.92]]
    )
    assert axes.get_xscale() == "log" and to_array(figure).std() > 0


def test_bounds_are_drawn_over_hours():
    systems = {"SQAIR": ([0.5, 1.0], [500.0, 560.0]), "AIR": ([0.25, 0.5, 1.0], [400.0, 480.0, 510.0])}
    figure = system_curves.hours_figure(systems)
    (axes,) = figure.axes
    lines = axes.get_lines()
    np.testing.assert_allclose(lines[0].get_xydata(), [[0.5, 500], [1, 560]])
    assert lines[1].get_color() != lines[0].get_color()
    assert to_array(figure).std() > 0
