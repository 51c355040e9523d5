# SPDX-License-Identifier: GPL-3.0-or-later
"""From a run to a model to share: its weights without the optimiser's memory, its flags, training curve and times."""

import csv
import json
import os

from sqair.data.publishing import check_vacant, staged_folder
from sqair.errors import UserError
from sqair.training import checkpoints, runs, times
from sqair.training.reporting import VALID, read_metrics

CURVE = (
    "step",
    "seq_len",
    "normalised_iwae",
    "normalised_vae",
    "data_ll",
    "kl",
    "num_steps",
    "num_disc_steps",
)
CURVE += ("num_prop_steps", "num_step_acc", "mse", "ess")
DATA_DIR = os.path.join("data", "multi_mnist")  # instead of a path on the machine that trained


def export(run, folder, checkpoint=None):
    """Writes a folder that `sqair.Tracker` and scripts/evaluate.py open like that of the run.

    Args:
        run: str, a run folder.
        folder: str, to write; it may not exist yet.
        checkpoint: path of a checkpoint; the last complete one of the run by default.

    Returns:
        The path of the checkpoint written.

    Raises:
        UserError: if something is missing, or the folder is in use or cannot be written.
    """
    flags = runs.read_json(os.path.join(run, "flags.json"))
    found = checkpoints.of_run_or_path(checkpoint or run)
    if found.step is None:
        raise UserError(
            f"{found.path} does not say after how many updates it was written; name one that does."
        )
    if os.path.isabs(flags.get("data_dir", "")):
        flags["data_dir"] = DATA_DIR
    written = os.path.join("checkpoints", f"{checkpoints.PERMANENT}-{found.step}")
    with staged_folder(folder, check=check_vacant) as staging:
        checkpoints.write(os.path.join(staging, written), checkpoints.weights_of(found.values))
        with open(os.path.join(staging, "flags.json"), "w") as file:
            json.dump(flags, file, indent=2, sort_keys=True)
            file.write("\n")
        metrics = read_metrics(os.path.join(run, "metrics.csv"))
        rows = [row for row in metrics if row["source"] == VALID and row["step"] <= found.step]
        with open(os.path.join(staging, "curve.csv"), "w", newline="") as file:
            writer = csv.DictWriter(file, CURVE, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow(
                    {
                        name: f"{value:.5g}" if name != "step" else value
                        for name, value in row.items()
                        if name in CURVE
                    }
                )
        shown = {row["step"] for row in rows}
        noted = [row for row in times.read(os.path.join(run, times.NAME)) if row[0] <= found.step]
        if noted:
            kept = [row for row in noted if row[0] in shown or row is noted[-1]]
            times.write(os.path.join(staging, times.NAME), kept)
    return os.path.join(folder, written)
