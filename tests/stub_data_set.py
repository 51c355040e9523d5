# SPDX-License-Identifier: GPL-3.0-or-later
"""Data sets of a few sequences, and what is in a folder."""

import os

import numpy as np

from sqair.data import mnist, moving_mnist, storage
from sqair.data.mnist import Digits, DigitSplits

NUM_TRAIN, NUM_VALID = 45, 7
OPTIONS = moving_mnist.Options(canvas_size=(30, 40), digit_scale=0.6, num_digits=(0, 1, 3), seq_len=4)
SHARD = "train-00001-of-00003.tfrecord"


def sharded_set(path):
    """Writes a data set with three training shards; returns its path."""
    shard_sequences, storage.SHARD_SEQUENCES = storage.SHARD_SEQUENCES, 20
    try:
        moving_mnist.create(path, mnist.load_bundle(), OPTIONS, NUM_TRAIN, NUM_VALID, seed=4, num_workers=1)
    finally:
        storage.SHARD_SEQUENCES = shard_sequences
    return path


def script_set(path, num_train):
    """Writes a data set for scripts, `num_train` and 6 sequences of 4 frames of 30x28 pixels; returns its path."""
    options = moving_mnist.Options(canvas_size=(30, 28), digit_scale=0.5, seq_len=4)
    moving_mnist.create(path, mnist.load_bundle(), options, num_train, num_valid=6, num_workers=1)
    return path


def sharded_sequences():
    """What its training set holds, made anew."""
    return list(moving_mnist.make_chunk(mnist.load_bundle().train, OPTIONS, 4, "train", 0, NUM_TRAIN))


def small_set(folder, seed=0, overwrite=False):
    """Three training and three validation sequences of one digit."""
    digits = Digits(np.full((1, 28, 28), 200, np.uint8), np.array([7], np.uint8))
    options = moving_mnist.Options(num_digits=(1,), seq_len=2)
    moving_mnist.create(str(folder), DigitSplits(digits, digits), options, 3, 3, seed, 1, overwrite)


def content_of(folder):
    """Name of each file of a folder -> its bytes."""
    content = {}
    for name in sorted(os.listdir(str(folder))):
        with open(os.path.join(str(folder), name), "rb") as stream:
            content[name] = stream.read()
    return content
