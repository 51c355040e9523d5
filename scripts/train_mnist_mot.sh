#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Trains on MNIST-MOT (scripts/create_multi_mnist_dataset.sh --kind=mnist_mot) by the fast recipe, with the slots and the
# prior that scripts/check_data.py suggests, glimpses of a digit's size, and a discovery that does not give up before a
# digit is drawn, as it otherwise does within 50 updates. One frame more every 600 updates: all 20 come before the rate
# falls. All flags go to train.py (see --help).
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/train_fast.sh" --run_name=mnist_mot --data_dir=data/mnist_mot --glimpse_size=28 \
  --scale_prior=-2.6,-2.6 --n_steps_per_image=3 --disc_step_bias=10 --output_std=0.2 --stage_itr=600 -- "$@"
