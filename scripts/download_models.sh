#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Downloads trained models into models/; all flags go to download_models.py (see --help).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=${PYTHON:-}
if [ -z "$python" ] || ! command -v "$python" >/dev/null; then
  echo "There is no $root/.venv; run scripts/setup.sh first, or set PYTHON to one that has the requirements." >&2
  exit 2
fi
exec "$python" "$root/scripts/download_models.py" "$@"
