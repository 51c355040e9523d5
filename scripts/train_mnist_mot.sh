#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Trains on MNIST-MOT by the fast recipe in three legs, each with the weights of the one before: digits are hard to find in
# a large frame, so they begin large. They cross a canvas of 64, then 96, then 128 pixels, that is always reduced to 64:
#
#   for side in 64 96 128; do
#     scripts/create_multi_mnist_dataset.sh --kind=mnist_mot --canvas_size=$side --frame_size=64 --data_dir=data/mnist_mot_$side
#   done
#
# What is drawn begins faint: in glimpses this large, drawn noise costs more than an object is worth, and discovery would
# give up within 50 updates. The last leg has one frame more every 250 updates, at a lower rate: at 3e-4 it forgot all it
# knew when it came to 11 frames. Its prior does not expect objects to stay, as digits come and go. All flags go to train.py
# (see --help), for each leg. Called again, it goes on where it was; another --results_dir=FOLDER trains anew.
set -euo pipefail
scripts=$(dirname "${BASH_SOURCE[0]}")
given=("$@") results=results trying= child=
for argument in "$@"; do
  case $argument in
    --results_dir=*) results=${argument#*=} ;;
    --results_dir | --run_name | --run_name=*)
      echo "\`$argument\` is refused: the legs have their own --run_name; --results_dir=FOLDER moves all of them." >&2
      exit 2
      ;;
    --test_run | --test_run=[tT1]*) trying=yes ;;  # has a folder of its own for each leg, and no weights worth going on with
  esac
done

# A training has a process group of its own, so that Ctrl-C does not reach it twice; it is told to save and to end.
set -m
trap 'kill -TERM $child 2>/dev/null || exit 143' INT TERM

last_run() {  # the folder of the last run of a leg that has a checkpoint; nothing if there is none
  local index found=
  for index in "$results/mnist_mot_$1"/*/checkpoints/*.index; do
    if [ -z "$trying" ] && [ -e "$index" ]; then found=${index%/checkpoints/*}; fi
  done
  echo "$found"
}

leg() {  # canvas's side, folder whose weights it begins with, further flags
  local name=mnist_mot_$1 begin=--init_from=$2 status
  if [ -n "$(last_run "$1")" ]; then begin=--resume; fi
  "$scripts/train_fast.sh" --run_name="$name" --data_dir="data/$name" --output_std=0.2 --output_scale=0.05 \
    --scale_prior=-0.5 --glimpse_size=28 --log_itr=500 --eval_size_fraction=0.1 "${@:3}" "$begin" -- ${given[@]+"${given[@]}"} &
  child=$!
  while wait "$child"; status=$?; [ "$status" -gt 128 ] && kill -0 "$child" 2>/dev/null; do :; done  # interrupted, it waits again
  return "$status"
}

leg 64 "" --train_itr=3000 --stage_itr=0 --decay_from=2999
leg 96 "$(last_run 64)" --train_itr=3000 --stage_itr=0 --decay_from=2999
leg 128 "$(last_run 96)" --train_itr=3000 --stage_itr=250 --decay_from=1500 --learning_rate=1e-4 \
  --prop_prior_step_bias=0
