#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Downloads trained models into models/; all flags go to download_models.py (see --help).
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/python.sh" download_models.py "$@"
