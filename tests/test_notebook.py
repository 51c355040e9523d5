# SPDX-License-Identifier: GPL-3.0-or-later
"""The notebook runs from start to end, and is committed as it looks then."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "notebooks", "play.ipynb")


@pytest.fixture
def notebook():
    return nbformat.read(PATH, as_version=4)


def pictures(notebook):
    return [o for c in notebook.cells for o in c.get("outputs", ()) if "image/png" in o.get("data", {})]


def test_it_is_committed_with_its_outputs(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert len(pictures(notebook)) == 7
    text = nbformat.writes(notebook)
    assert '"stderr"' not in text and '"output_type": "error"' not in text and "/tmp/" not in text
    assert os.path.getsize(PATH) < 1_000_000


@pytest.mark.slow
def test_it_runs_from_start_to_end(notebook, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    shown = len(pictures(notebook))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": os.path.dirname(PATH)}}).execute()
    assert len(pictures(notebook)) == shown
    errors = [o for c in notebook.cells for o in c.get("outputs", ()) if o.get("name") == "stderr"]
    assert not errors
