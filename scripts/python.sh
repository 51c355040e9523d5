#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs one of these scripts with the project's Python: its name, then its flags. The other shell scripts call this.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case ${SQAIR_TF:-} in  # which TensorFlow; what there is where that is not said
  2) python=$root/.venv-tf2/bin/python ;;
  1) python=$root/.venv/bin/python ;;
  *) python=$root/.venv/bin/python
     [ -x "$python" ] || python=$root/.venv-tf2/bin/python ;;
esac
venv=${python%/bin/python}
[ -x "$python" ] || python=${PYTHON:-}
if [ -z "$python" ] || ! command -v "$python" >/dev/null; then
  echo "There is no $venv; run scripts/setup.sh first, or set PYTHON to one that has the requirements." >&2
  exit 2
fi
script=$1
shift
exec "$python" "$root/scripts/$script" "$@"
