#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Creates moving multi-MNIST in data/multi_mnist; all flags go to create_multi_mnist_dataset.py (see --help).
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/python.sh" create_multi_mnist_dataset.py "$@"
