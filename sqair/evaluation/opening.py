# SPDX-License-Identifier: GPL-3.0-or-later
"""From the folder of a run to its model, ready to evaluate."""

import os

from orderedattrdict import AttrDict

from sqair import config_files
from sqair.baselines.filtered_sqair import filtered
from sqair.baselines.fivo import RESAMPLE_BELOW
from sqair.evaluation.evaluator import Evaluator
from sqair.training import checkpoints, runs
from sqair.training.settings import from_flags as settings_from_flags


def open_run(folder, checkpoint=None, bound=None, choose=None, **changes):
    """The model of a run, ready to evaluate.

    Args:
        folder: str, a run folder.
        checkpoint: path of a checkpoint, or a `Checkpoint`; the last complete one of the run by default.
        bound: "iwae" or "fivo", the bound to evaluate; what the model was trained on by default.
        choose: function of the run's data, mapping of split -> `SequenceDataset`, to what is evaluated of them, as
            `addition.with_pairs`; all by default.
        changes: flags to use instead of the run's, e.g. `data_dir` or `k_particles`; `data_config` and `model_config`
            for a run that was made with config files that do not come with the package.

    Returns:
        Tuple of `Evaluator` of the run's "train" and "valid" data, or what is chosen of them, and the number
        of updates that the model has seen, None if the checkpoint does not say.

    Raises:
        UserError: if something is missing or does not fit.
    """
    flags = AttrDict(runs.read_json(os.path.join(folder, "flags.json")))
    flags.update(changes, estimator="reinforce")  # no gradient is taken, and one particle will do
    data_config, model_config = (
        config_files.load(changes.get(name) or runs.recorded_config(folder, name))
        for name in ("data_config", "model_config")
    )
    if not isinstance(checkpoint, checkpoints.Checkpoint):
        checkpoint = checkpoints.of_run_or_path(checkpoint or folder)
    data = data_config.load(flags)
    mean_image = data.train.mean_image()
    if bound is not None:  # for models that can do both
        flags.resample_below = 0.0 if bound == "iwae" else flags.get("resample_below") or RESAMPLE_BELOW

    def make_model():
        model = model_config.load(flags, mean_image)
        return model if bound in (None, model.bound.name) else filtered(model, bound)

    evaluator = Evaluator(make_model, data if choose is None else choose(data), settings_from_flags(flags))
    evaluator.load(checkpoint.values, checkpoint.path)
    return evaluator, checkpoint.step
