# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags that name a run, or a trained model, and what to use instead of what it was trained with."""

from absl import flags

from sqair.cli import group


def define_run():
    """Defines the flags that name a run and its checkpoint."""
    with group("Run"):
        flags.DEFINE_string("results_dir", "results", "Where runs are.")
        flags.DEFINE_string("run_name", "multi_mnist", "Name of the run.")
        flags.DEFINE_string("run", "", "Which run of that name, by number or folder; the last by default.")
        flags.DEFINE_string(
            "checkpoint", None, "Path of a checkpoint; the last complete one of the run by default."
        )


def define_run_and_data():
    """Defines these, and the flags of its data and of config files."""
    define_run()
    with group("Run"):
        flags.DEFINE_string("data", None, "Folder of a data set to use instead of the one it was trained on.")
        flags.DEFINE_string(
            "data_config", None, "Config file of the data; as trained by default, if it is the package's."
        )
        flags.DEFINE_string("model_config", None, "Config file of the model; likewise.")


def changes_of(flags, **more):
    """What `opening.open_run` is to use instead of the run's own flags: dict, also of `more`, without None."""
    changes = dict(more, data_dir=flags.data, data_config=flags.data_config, model_config=flags.model_config)
    return {name: value for name, value in changes.items() if value is not None}
