#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Trains on moving multi-MNIST with the original's settings, which are the defaults of train.py, into
# results/multi_mnist/N. All flags go to train.py (see --help): --resume goes on with the last run.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/python.sh" train.py --results_dir=results --run_name=multi_mnist -- "$@"
