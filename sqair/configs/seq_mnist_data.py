# SPDX-License-Identifier: GPL-3.0-or-later
"""Data: moving multi-MNIST, or videos of your own."""

import os

from absl import flags
from orderedattrdict import AttrDict

from sqair.data.pipeline import SequenceDataset

flags.DEFINE_string(
    "data_dir",
    os.path.join("data", "multi_mnist"),
    "Folder of the data set, as scripts/create_multi_mnist_dataset.sh or scripts/import_videos.py writes it.",
)


def load(flags):
    """Opens and checks the data set of `flags.data_dir`.

    Returns:
        `AttrDict(train=SequenceDataset, valid=SequenceDataset)`.

    Raises:
        UserError: if the data set is missing or damaged.
    """
    return AttrDict(
        train=SequenceDataset(flags.data_dir, "train"),
        valid=SequenceDataset(flags.data_dir, "valid"),
    )
