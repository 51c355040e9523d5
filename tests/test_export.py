# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os

import numpy as np
import pytest
from script_run import run_script
from stub_model import StubDataset, StubModel

from sqair.errors import UserError
from sqair.training import checkpoints, times
from sqair.training.export import export
from sqair.training.graph import TrainingGraph
from sqair.training.settings import Settings

SETTINGS = Settings(
    batch_size=3, k_particles=2, train_itr=8, learning_rate=0.01, num_threads=1, opt="adam", average=0.5
)
METRICS = "step,source,normalised_iwae,loss\n2,batch,1,2\n2,valid,612.34567,3\n4,valid,5,6\n"


@pytest.fixture
def run(tmp_path):
    """The folder of a run of three updates, and its values."""
    folder = tmp_path / "run"
    folder.mkdir()
    graph = TrainingGraph(StubModel, StubDataset(6), SETTINGS)
    for _ in range(3):
        graph.update(False)
    graph.save(str(folder / "checkpoints"), rolling=False)
    values = graph.values()
    graph.close()
    (folder / "flags.json").write_text(json.dumps({"data_dir": "/home/someone/set", "n_what": 2}))
    (folder / "metrics.csv").write_text(METRICS)
    (folder / "times.csv").write_text("step,seconds\n0,0.0\n1,0.5\n2,1.25\n3,2.5\n4,9.0\n")
    return str(folder), values


def test_weights_flags_and_curve_are_what_is_left(run, tmp_path):
    folder, values = run
    out = str(tmp_path / "models" / "mine")
    path = export(folder, out)
    assert path == os.path.join(out, "checkpoints", "model-3")
    found = checkpoints.of_run_or_path(out)
    assert set(found.values) == {"decoder/colour", "discovery/jitter", "prior/unused", "global_step"}
    np.testing.assert_array_equal(found.values["decoder/colour"], values["decoder/colour/average"])
    assert checkpoints.digest(found.values) == checkpoints.digest(
        values
    )  # evaluations of the run are the model's
    assert found.values["decoder/colour"].dtype == np.float32 and found.values["global_step"] == 3
    with open(os.path.join(out, "flags.json")) as file:
        assert json.load(file) == {"data_dir": "data/multi_mnist", "n_what": 2}
    with open(os.path.join(out, "curve.csv")) as file:
        lines = file.read().splitlines()
    assert len(lines) == 2 and lines[1].startswith("2,,612.35,")
    assert times.read(os.path.join(out, "times.csv")) == [(2, 1.25), (3, 2.5)]  # of the curve, and the last


def test_nothing_is_replaced_and_nothing_half_written(run, tmp_path):
    folder, _ = run
    out = tmp_path / "mine"
    out.mkdir()
    (out / "x").write_text("precious")
    with pytest.raises(UserError, match="is in use already"):
        export(folder, str(out))
    with pytest.raises(UserError, match="is incomplete"):
        export(folder, str(tmp_path / "other"), str(tmp_path / "nowhere"))
    assert sorted(os.listdir(str(tmp_path))) == ["mine", "run"] and os.listdir(str(out)) == ["x"]


@pytest.mark.slow
def test_the_script(run, tmp_path):
    out = str(tmp_path / "mine")
    status, output, errors = run_script("export_model.py", f"--run={run[0]}", f"--out={out}")
    assert (status, errors) == (
        0,
        "",
    ) and output == f"Wrote {out}/checkpoints/model-3, and its flags and curve in {out}.\n"
    assert run_script("export_model.py", f"--run={run[0]}") == (
        2,
        "",
        "--out is missing; name the folder to write.\n",
    )
