#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes .venv with everything the project needs; quick when there is nothing to do.
#
#   scripts/setup.sh                 make or update .venv: Python 3.7, TensorFlow 1.15
#   scripts/setup.sh --tf2           make or update .venv-tf2: Python 3.10 to 3.12, TensorFlow 2; also with SQAIR_TF=2
#   scripts/setup.sh --horovod       the same, and build Horovod into .venv, for training on several processes
#   scripts/setup.sh --find-python   print the Python that would be used, and nothing else
#
# PYTHON=/path/to/python is tried before any other interpreter. Exits with 2 where there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf '%s\n' "$1" >&2; exit 2; }

TF=${SQAIR_TF:-1}
FIND=
HOROVOD=
for argument; do
  case $argument in
    --tf2) TF=2 ;;
    --horovod) HOROVOD=1 ;;
    --find-python) FIND=1 ;;
    *) fail "scripts/setup.sh takes --tf2, --horovod and --find-python, not '$argument'." ;;
  esac
done
TF2_VERSIONS="3.12 3.11 3.10"  # the first that is there
case $TF in
  1) VENV=.venv VERSIONS=3.7 SHOWN="Python 3.7" REQUIREMENTS="requirements.txt requirements-dev.txt"
     TOOLS="pip==24.0 setuptools==65.6.3 wheel==0.42.0" ;;
  2) VENV=.venv-tf2 VERSIONS=$TF2_VERSIONS SHOWN="Python 3.10 to 3.12"
     REQUIREMENTS="requirements-tf2.txt requirements-dev-tf2.txt" TOOLS="pip==25.3 setuptools==80.9.0 wheel==0.45.1" ;;
  *) fail "SQAIR_TF=$TF is no TensorFlow that is known here: it is 1 or 2." ;;
esac
STAMP=$VENV/.set-up      # what was installed, where; written last
UNFINISHED=$VENV/.unfinished  # there while pip is at work: the environment is not to be trusted
WITH_HOROVOD=$VENV/.with-horovod  # what of it was built, against what; written last
LOG=$VENV/setup.log
LOCK=$VENV.lock
: "${HOME:=/}"

# A Python of the given version, 64 bits, with what a virtual environment and pip need.
CHECK='
import os, struct, sys
assert "%d.%d" % sys.version_info[:2] in sys.argv[1:] and struct.calcsize("P") == 8
import ensurepip, ssl, venv, zlib
print(os.path.realpath(sys.executable))
'

# Prints what interpreter really runs under a name (behind a shim or another virtual environment), if it is of one of
# the versions that follow.
resolve() {
  local real name=$1
  shift
  [ -x "$name" ] && real=$("$name" -c "$CHECK" "$@" </dev/null 2>/dev/null) && [ -x "$real" ] && printf '%s\n' "$real"
}

# Every interpreter that might be of a version, one a line.
candidates() {
  local dir name v=$1
  for name in "python$v" python3 python; do
    while IFS= read -r dir; do printf '%s\n' "${dir:-.}/$name"; done < <(tr ':' '\n' <<<"$PATH")
  done
  printf '%s\n' \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*"$v"*/bin/"python$v" \
    "${ASDF_DATA_DIR:-$HOME/.asdf}"/installs/python/"$v"*/bin/"python$v" \
    "${XDG_DATA_HOME:-$HOME/.local/share}"/mise/installs/python/"$v"*/bin/"python$v" \
    "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}"/"cpython-$v"*/bin/"python$v"
  # conda lists every environment it ever made in this file; the folders are where it puts them by default.
  if [ -r "$HOME/.conda/environments.txt" ]; then sed 's|$|/bin/python|' "$HOME/.conda/environments.txt"; fi
  for dir in "${CONDA_PREFIX:-}" "${MAMBA_ROOT_PREFIX:-}" "$HOME"/*conda3 "$HOME"/miniforge3 "$HOME"/mambaforge \
    "$HOME"/micromamba /opt/conda /opt/*conda3 /opt/miniforge3; do
    if [ -n "$dir" ]; then printf '%s\n' "$dir"/bin/python "$dir"/envs/*/bin/python; fi
  done
  printf '%s\n' "/usr/local/bin/python$v" /opt/python*"$v"*/bin/"python$v" \
    "/opt/homebrew/opt/python@$v/bin/python$v" "/usr/local/opt/python@$v/bin/python$v" \
    "/Library/Frameworks/Python.framework/Versions/$v/bin/python$v"
}

# Prints an interpreter of the first of these versions that this machine has.
installed_python() {
  local candidate version
  for version; do
    while IFS= read -r candidate; do resolve "$candidate" "$version" && return 0; done < <(candidates "$version")
  done
  return 1
}

find_python() {
  local version=${VERSIONS%% *}
  if [ -n "${PYTHON:-}" ]; then
    resolve "$(command -v "$PYTHON")" $VERSIONS && return 0
    printf 'PYTHON=%s is no working %s: looking elsewhere.\n' "$PYTHON" "$SHOWN" >&2
  fi
  installed_python $VERSIONS && return 0
  command -v uv >/dev/null 2>&1 || return 1
  resolve "$(uv python find "$version" 2>/dev/null)" "$version" && return 0
  printf 'Fetching Python %s with uv.\n' "$version" >&2
  uv python install "$version" >/dev/null 2>&1 && resolve "$(uv python find "$version" 2>/dev/null)" "$version"
}

no_python() {
  local newer
  if [ "$TF" = 2 ]; then fail "$NO_NEWER_PYTHON"; fi
  newer=$(installed_python $TF2_VERSIONS) || newer="Python 3.10 to 3.12"
  fail "$NO_PYTHON
Or take TensorFlow 2, which $newer runs: make setup TF=2 (or scripts/setup.sh --tf2)."
}

NO_NEWER_PYTHON='No working Python 3.10, 3.11 or 3.12 (64 bits, with ssl and venv) was found, and TensorFlow 2 is tried on these.
Get one with your system'"'"'s packages, or with uv python install 3.12 or pyenv install 3.12, then run the command again.
An interpreter anywhere else is named by PYTHON=/path/to/python3.12.'

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
  python=$(find_python) || no_python
  machine=$("$python" -c 'import platform; print(platform.machine())')
  case $TF,$machine in
    2,* | *,x86_64 | *,AMD64) ;;
    *) fail "TensorFlow 1.15 has wheels for x86-64 alone and $python is built for $machine: take TensorFlow 2 (make setup TF=2, or scripts/setup.sh --tf2), or set PYTHON to an x86-64 build." ;;
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

HOROVOD_TOOLS="cmake==3.31.6 PyYAML==6.0.1 psutil==7.2.2"  # what it is built with, and what it needs
HOROVOD_VERSION=0.28.1

can_build_horovod() {
  local tool
  if [ "$TF" = 2 ]; then
    fail "--horovod is refused with TensorFlow 2: Horovod $HOROVOD_VERSION does not build against 2.21."
  fi
  for tool in g++ make; do
    command -v "$tool" >/dev/null 2>&1 ||
      fail "Horovod is compiled, and there is no $tool: get g++ and make with your system's packages (as in apt-get install g++ make), then run this again."
  done
}

# With Gloo, which needs no MPI; HOROVOD_GPU_OPERATIONS=NCCL in the environment lets GPUs exchange by themselves.
build_horovod() {
  printf 'Building Horovod %s against TensorFlow (5 to 15 minutes on 2 cores).\n' "$HOROVOD_VERSION"
  rm -f "$WITH_HOROVOD"
  : >"$LOG"
  pip_install $HOROVOD_TOOLS
  export HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_GLOO=1
  export HOROVOD_WITHOUT_MPI=1 MAKEFLAGS=${MAKEFLAGS:--j2}
  # Neither isolated from TensorFlow nor from a cache, where one that was built against another may be.
  PATH=$PWD/$VENV/bin:$PATH pip_install --no-build-isolation --no-deps --no-cache-dir --force-reinstall \
    --no-binary=horovod "horovod==$HOROVOD_VERSION"
  TF_CPP_MIN_LOG_LEVEL=3 "$VENV/bin/python" -c 'import sqair.graph_mode, horovod.tensorflow' >>"$LOG" 2>&1 ||
    { tail -n 5 "$LOG" >&2; fail "Horovod was built and does not import (the reason is above)."; }
  with_horovod >"$WITH_HOROVOD"
}

with_horovod() { printf "%s %s %s %s " "$PWD" "$HOROVOD_VERSION" "${HOROVOD_GPU_OPERATIONS:-}" "$HOROVOD_TOOLS" && cat requirements.txt | cksum; }

has_horovod() { [ -z "$HOROVOD" ] || { [ -r "$WITH_HOROVOD" ] && [ "$(cat "$WITH_HOROVOD")" = "$(with_horovod)" ]; }; }

wanted() { printf "%s " "$PWD" && cat scripts/setup.sh $REQUIREMENTS | cksum; }

up_to_date() {
  [ ! -e "$UNFINISHED" ] && [ -r "$STAMP" ] && [ "$(cat "$STAMP")" = "$(wanted)" ] && [ -x "$VENV/bin/python" ]
}

# All that the requirements list, into an environment that is made if there is none to trust.
set_up() {
  if [ -e "$UNFINISHED" ] || ! resolve "$VENV/bin/python" $VERSIONS >/dev/null || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    make_venv
  fi
  touch "$UNFINISHED"
  : >"$LOG"
  printf 'Installing what %s and %s list (some minutes: TensorFlow alone is 400 MB).\n' $REQUIREMENTS
  pip_install $TOOLS
  pip_install -r ${REQUIREMENTS/ / -r }
  if [ "$TF" = 2 ]; then pip_install --no-deps dm-sonnet==1.36; fi  # it asks for packages of TensorFlow 1
  pip_install --no-deps --no-build-isolation -e .
  # Also builds matplotlib's list of fonts, which would be announced at the first figure otherwise.
  TF_CPP_MIN_LOG_LEVEL=3 "$VENV/bin/python" -c 'import matplotlib.font_manager, sqair.graph_mode' >>"$LOG" 2>&1 ||
    { tail -n 5 "$LOG" >&2; fail "Set-up failed: the installed packages do not import (the reason is above)."; }
  wanted >"$STAMP"
  rm -f "$UNFINISHED"
}

if [ -n "$FIND" ]; then
  find_python || no_python
  exit 0
fi
if up_to_date && has_horovod; then exit 0; fi
if ! has_horovod; then can_build_horovod; fi
lock
if up_to_date && has_horovod; then exit 0; fi
started=$SECONDS
if ! up_to_date; then set_up; fi
if ! has_horovod; then build_horovod; fi
printf 'Set-up is complete after %d s.\n' $((SECONDS - started))
