#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes .venv with everything the project needs; quick when there is nothing to do.
#
#   scripts/setup.sh                 make or update .venv
#   scripts/setup.sh --find-python   print the Python 3.7 that would be used, and nothing else
#
# PYTHON=/path/to/python3.7 is tried before any other interpreter. Exits with 2 where there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=.venv
STAMP=$VENV/.set-up      # what was installed, where; written last
UNFINISHED=$VENV/.unfinished  # there while pip is at work: .venv is not to be trusted
LOG=$VENV/setup.log
LOCK=.venv.lock
: "${HOME:=/}"

# Python 3.7, 64 bits, with what a virtual environment and pip need.
CHECK='
import os, struct, sys
assert sys.version_info[:2] == (3, 7) and struct.calcsize("P") == 8
import ensurepip, ssl, venv, zlib
print(os.path.realpath(sys.executable))
'

# Prints what interpreter really runs under the given name (behind a shim or another virtual environment).
resolve() {
  local real
  [ -x "$1" ] && real=$("$1" -c "$CHECK" </dev/null 2>/dev/null) && [ -x "$real" ] && printf '%s\n' "$real"
}

fail() { printf '%s\n' "$1" >&2; exit 2; }

# Every interpreter that might do, one a line.
candidates() {
  local dir name
  for name in python3.7 python3 python; do
    while IFS= read -r dir; do printf '%s\n' "${dir:-.}/$name"; done < <(tr ':' '\n' <<<"$PATH")
  done
  printf '%s\n' \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*3.7*/bin/python3.7 \
    "${ASDF_DATA_DIR:-$HOME/.asdf}"/installs/python/3.7*/bin/python3.7 \
    "${XDG_DATA_HOME:-$HOME/.local/share}"/mise/installs/python/3.7*/bin/python3.7 \
    "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}"/cpython-3.7*/bin/python3.7
  # conda lists every environment it ever made in this file; the folders are where it puts them by default.
  if [ -r "$HOME/.conda/environments.txt" ]; then sed 's|$|/bin/python|' "$HOME/.conda/environments.txt"; fi
  for dir in "${CONDA_PREFIX:-}" "${MAMBA_ROOT_PREFIX:-}" "$HOME"/*conda3 "$HOME"/miniforge3 "$HOME"/mambaforge \
    "$HOME"/micromamba /opt/conda /opt/*conda3 /opt/miniforge3; do
    if [ -n "$dir" ]; then printf '%s\n' "$dir"/bin/python "$dir"/envs/*/bin/python; fi
  done
  printf '%s\n' /usr/local/bin/python3.7 /opt/python*3.7*/bin/python3.7 \
    /opt/homebrew/opt/python@3.7/bin/python3.7 /usr/local/opt/python@3.7/bin/python3.7 \
    /Library/Frameworks/Python.framework/Versions/3.7/bin/python3.7
}

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    resolve "$(command -v "$PYTHON")" && return 0
    printf 'PYTHON=%s is no working Python 3.7: looking elsewhere.\n' "$PYTHON" >&2
  fi
  while IFS= read -r candidate; do resolve "$candidate" && return 0; done < <(candidates)
  command -v uv >/dev/null 2>&1 || return 1
  resolve "$(uv python find 3.7 2>/dev/null)" && return 0
  printf 'Fetching Python 3.7 with uv.\n' >&2
  uv python install 3.7 >/dev/null 2>&1 && resolve "$(uv python find 3.7 2>/dev/null)"
}

NO_PYTHON='No working Python 3.7 (64 bits, with ssl and venv) was found, and TensorFlow 1.15 runs on no later one.
Get it in one of these ways, then run the command again:
  uv     curl -LsSf https://astral.sh/uv/install.sh | sh         (Linux, macOS; fetched by this script from then on)
  pyenv  pyenv install 3.7.16                                    (Linux, macOS; compiles it)
  conda  conda create -y -n python37 -c conda-forge python=3.7   (Linux, macOS)
On a Mac with Apple silicon take the x86-64 build (uv python install cpython-3.7-macos-x86_64, or conda with
CONDA_SUBDIR=osx-64). An interpreter anywhere else is named by PYTHON=/path/to/python3.7.'

# Prints what pip is at on one line of a terminal; in a log file nothing.
show_progress() {
  local line
  while IFS= read -r line; do
    case $line in
      Collecting* | Downloading* | Building* | Installing*)
        if [ -t 2 ]; then printf '\r\033[K  %.76s' "$line" >&2; fi ;;
    esac
  done
  if [ -t 2 ]; then printf '\r\033[K' >&2; fi
}

pip_install() {
  "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input "$@" 2>&1 | tee -a "$LOG" | show_progress ||
    { tail -n 15 "$LOG" >&2; fail "Set-up failed while installing packages (the end of $LOG is above); run it again to start anew."; }
}

make_venv() {
  local python machine
  python=$(find_python) || fail "$NO_PYTHON"
  machine=$("$python" -c 'import platform; print(platform.machine())')
  case $machine in
    x86_64 | AMD64) ;;
    *) fail "TensorFlow 1.15 has wheels for x86-64 alone and $python is built for $machine: set PYTHON to an x86-64 build." ;;
  esac
  printf 'Making %s with %s.\n' "$VENV" "$python"
  rm -rf "$VENV"
  mkdir "$VENV"
  touch "$UNFINISHED"
  "$python" -m venv "$VENV" || fail "Set-up failed: $python could not make a virtual environment in $PWD/$VENV."
}

# One set-up at a time; a lock whose owner is gone is taken over.
lock() {
  local owner waited=
  until mkdir "$LOCK" 2>/dev/null; do
    owner=$(cat "$LOCK/pid" 2>/dev/null || true)
    if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then rm -rf "$LOCK"; continue; fi
    if [ -z "$waited" ]; then printf 'Waiting for another set-up (remove %s if there is none).\n' "$PWD/$LOCK"; waited=1; fi
    sleep 1
  done
  trap 'rm -rf "$LOCK"' EXIT
  printf '%s\n' $$ >"$LOCK/pid"
}

wanted() { printf "%s " "$PWD" && cat scripts/setup.sh requirements.txt requirements-dev.txt | cksum; }

up_to_date() {
  [ ! -e "$UNFINISHED" ] && [ -r "$STAMP" ] && [ "$(cat "$STAMP")" = "$(wanted)" ] && [ -x "$VENV/bin/python" ]
}

case ${1:-} in
  --find-python) find_python || fail "$NO_PYTHON"; exit 0 ;;
  '') ;;
  *) fail "scripts/setup.sh takes no argument or --find-python, not '$1'." ;;
esac

if up_to_date; then exit 0; fi
lock
if up_to_date; then exit 0; fi
started=$SECONDS
if [ -e "$UNFINISHED" ] || ! resolve "$VENV/bin/python" >/dev/null || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
  make_venv
fi
touch "$UNFINISHED"
: >"$LOG"
printf 'Installing what requirements.txt and requirements-dev.txt list (some minutes: TensorFlow alone is 400 MB).\n'
pip_install pip==24.0 setuptools==65.6.3 wheel==0.42.0
pip_install -r requirements.txt -r requirements-dev.txt
pip_install --no-deps --no-build-isolation -e .
# Also builds matplotlib's list of fonts, which would be announced at the first figure otherwise.
TF_CPP_MIN_LOG_LEVEL=3 "$VENV/bin/python" -c 'import matplotlib.font_manager, sonnet, tensorflow' >>"$LOG" 2>&1 ||
  { tail -n 5 "$LOG" >&2; fail "Set-up failed: the installed packages do not import (the reason is above)."; }
wanted >"$STAMP"
rm -f "$UNFINISHED"
printf 'Set-up is complete after %d s.\n' $((SECONDS - started))
