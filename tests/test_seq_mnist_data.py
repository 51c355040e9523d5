# SPDX-License-Identifier: GPL-3.0-or-later
from stub_data_set import NUM_TRAIN, NUM_VALID, sharded_set

from sqair.configs import seq_mnist_data


def test_it_opens_both_parts_of_the_folder_in_the_flag(tmp_path):
    class Flags:
        data_dir = sharded_set(str(tmp_path / "set"))

    data = seq_mnist_data.load(Flags)
    assert (data.train.num_sequences, data.valid.num_sequences) == (NUM_TRAIN, NUM_VALID)
