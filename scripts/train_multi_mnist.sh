#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Trains on moving multi-MNIST with the original's settings, which are the defaults of train.py, into
# results/multi_mnist/N. All flags go to train.py (see --help): --resume goes on with the last run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=${PYTHON:-}
if [ -z "$python" ] || ! command -v "$python" >/dev/null; then
  echo "There is no $root/.venv; run scripts/setup.sh first, or set PYTHON to one that has the requirements." >&2
  exit 2
fi
exec "$python" "$root/scripts/train.py" --results_dir=results --run_name=multi_mnist -- "$@"
