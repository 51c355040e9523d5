#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Creates moving multi-MNIST in data/multi_mnist; all flags go to create_multi_mnist_dataset.py (see --help).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=${PYTHON:-}
if [ -z "$python" ] || ! command -v "$python" >/dev/null; then
  echo "There is no $root/.venv; run scripts/setup.sh first, or set PYTHON to one that has the requirements." >&2
  exit 2
fi
exec "$python" "$root/scripts/create_multi_mnist_dataset.py" "$@"
