# SPDX-License-Identifier: GPL-3.0-or-later
import os

import numpy as np
import pytest
import stub_evaluation
from script_run import run_script

from sqair.errors import UserError
from sqair.evaluation import curves, evaluations, quantities, visualization

METRICS = """step,source,normalised_iwae,num_step_acc
100,batch,1,0.1
100,valid,400,0.5
200,valid,500,0.75
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    return str(tmp_path)


def test_validation_is_drawn_against_updates(run):
    figure = curves.training_figure(
        {"a": curves.read(run), "b": curves.read(os.path.join(run, "metrics.csv"))}
    )
    bound, accuracy = figure.axes
    for line in bound.get_lines():
        np.testing.assert_array_equal(line.get_xydata(), [[100, 400], [200, 500]])
    np.testing.assert_array_equal(accuracy.get_lines()[0].get_ydata(), [0.5, 0.75])
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["a", "b"]
    assert bound.get_ylim()[1] > 500 and visualization.to_array(figure).shape[2] == 3


def test_the_curve_of_a_model_is_read_like_the_metrics_of_a_run(tmp_path):
    (tmp_path / "curve.csv").write_text("step,normalised_iwae,num_step_acc\n100,400,0.5\n200,500,0.75\n")
    rows = curves.read(str(tmp_path))
    assert rows == [
        dict(step=100, normalised_iwae=400, num_step_acc=0.5),
        dict(step=200, normalised_iwae=500, num_step_acc=0.75),
    ]
    line = curves.training_panel(rows, "num_step_acc").axes[0].get_lines()[0]
    np.testing.assert_array_equal(line.get_xydata(), [[100, 0.5], [200, 0.75]])
    (tmp_path / "metrics.csv").write_text(METRICS.replace("400", "300"))
    assert curves.read(str(tmp_path))[0]["normalised_iwae"] == 300


def test_an_evaluation_is_drawn_frame_by_frame_with_its_errors():
    entry = stub_evaluation.entry()
    entry["estimates"]["num_prop_steps"]["by_frame"][1] = None
    drawn = [["normalised_iwae"], ["num_steps", "num_prop_steps", "num_disc_steps"]]
    drawn.append(["num_step_acc", "visible_step_acc"])
    panels = curves.frame_panels(entry)
    together = curves.frames_figure(entry, "mine").axes
    assert len(panels) == len(together) == 4
    for names, panel, shared in zip(drawn, panels, together):
        for axes in (curves.frame_figure(panel).axes[0], shared):
            assert len(axes.get_lines()) == len(names)
            for line, band, name in zip(axes.get_lines(), axes.collections, names):
                values = np.array(entry["estimates"][name]["by_frame"], float)
                np.testing.assert_array_equal(line.get_xydata(), np.stack([[1, 2, 3, 4], values], 1))
                ys = np.concatenate([path.vertices[:, 1] for path in band.get_paths()])
                assert (ys.min(), ys.max()) == (np.nanmin(values) - 1, np.nanmax(values) + 1)
    tracking = together[3].get_lines()[0].get_ydata()
    np.testing.assert_array_equal(tracking, [np.nan, 1.5, 0.75, 0.25])


def test_without_annotations_neither_counts_nor_tracks_are_drawn():
    entry = stub_evaluation.entry()
    entry["objects"] = None
    for name in ("num_step_acc", "visible_step_acc"):
        del entry["estimates"][name]
    assert [panel.title for panel in curves.frame_panels(entry)] == ["Bound", "Objects"]


def test_of_a_model_without_objects_the_bound_and_the_error_are_drawn(tmp_path):
    entry = dict(stub_evaluation.entry(), objects=None)
    for name in quantities.OF_OBJECTS:
        del entry["estimates"][name]
    assert [panel.title for panel in curves.frame_panels(entry)] == ["Bound"]
    (tmp_path / "metrics.csv").write_text(
        "step,source,normalised_iwae,mse\n10,valid,4,0.5\n20,valid,5,0.25\n"
    )
    rows = curves.read(str(tmp_path))
    assert curves.panels([rows]) == ("normalised_iwae", "mse")
    with_objects = [dict(step=1, normalised_iwae=1.0, num_steps=1.0, mse=0.1)]
    assert curves.panels([rows, with_objects]) == ("normalised_iwae", "mse")
    assert curves.panels([with_objects]) == ("normalised_iwae", "num_steps")
    assert len(curves.training_figure({"a": rows}).axes) == 2


def test_fivo_is_called_so():
    for bound, title in (("iwae", "IWAE bound"), ("fivo", "FIVO bound")):
        panel = curves.frame_panels(dict(stub_evaluation.entry(), bound=bound))[0]
        assert list(panel.lines)[0] == title


def test_what_a_training_raises_is_called_a_bound(run):
    rows = curves.read(run)
    for figure in (curves.training_figure({"a": rows}), curves.training_panel(rows, "normalised_iwae")):
        assert figure.axes[0].get_ylabel().replace("\n", ", ") == "bound, nats per frame"
    accuracy = curves.training_panel(rows, "num_step_acc").axes[0].get_ylabel()
    assert accuracy.replace("\n", ", ") == ", ".join(quantities.TITLES["num_step_acc"])


def test_lines_are_told_apart(run):
    axes = curves.training_figure({str(i): curves.read(run) for i in range(curves.MOST_RUNS)}).axes[0]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.get_lines()}) == curves.MOST_RUNS
    with pytest.raises(UserError, match="11 runs cannot be told apart"):
        curves.training_figure({str(i): curves.read(run) for i in range(11)})


@pytest.mark.parametrize(
    "content", [b"", b"step,source\n1,valid\n", b"a,b\n1,2\n", b"step,source\nx,valid\n", b"\xff\xfe\n"]
)
def test_what_is_no_training_is_refused(tmp_path, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics.csv (holds no validation numbers|cannot be read)"):
        curves.read(str(tmp_path))


@pytest.mark.slow
def test_the_script_writes_a_png(run, tmp_path):
    def call(*flags):
        return run_script("plot_training.py", *flags)

    output = str(tmp_path / "x.png")
    assert call(f"--runs={run}", "--labels=seed 0", f"--output={output}") == (0, f"Look at {output}\n", "")
    with open(output, "rb") as file:
        assert file.read(4) == b"\x89PNG"
    status, _, errors = call(f"--runs={run},{run}", "--labels=a")
    assert status == 2 and errors.startswith("--labels has 1 names for 2 --runs") and errors.count("\n") == 1
    assert call()[0] == 2


@pytest.mark.slow
def test_the_script_draws_an_evaluation(tmp_path):
    def call(*flags):
        return run_script("plot_evaluation.py", *flags)

    entry, output = stub_evaluation.entry(), str(tmp_path / "x.png")
    evaluations.Evaluations(str(tmp_path)).add(entry)
    assert call(f"--evaluations={tmp_path}", f"--output={output}") == (0, f"Look at {output}\n", "")
    with open(output, "rb") as file:
        assert file.read(4) == b"\x89PNG"
    del entry["objects"]["tight"]["mota_by_frame"]
    evaluations.Evaluations(str(tmp_path)).add(entry)
    status, _, errors = call(f"--evaluations={tmp_path}")
    assert status == 2 and "is damaged or of another version" in errors and errors.count("\n") == 1
    assert call(f"--evaluations={tmp_path / 'none'}")[0] == 2
