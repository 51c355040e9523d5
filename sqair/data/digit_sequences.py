# SPDX-License-Identifier: GPL-3.0-or-later
"""What data sets of moving digits share: annotated sequences, made in chunks by several processes.

Each chunk has a fixed size and a random stream of its own, so that one seed fixes every byte whatever the number of
processes, and a smaller data set is the beginning of a larger one.
"""

import contextlib
import hashlib
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from sqair.data import statistics, storage, tfrecords, workers
from sqair.data.publishing import staged_folder

CHUNK_SEQUENCES = 250
SPLITS = ("train", "valid")  # a split's place here enters its random streams: keep the order
NO_LABEL = -1


class Sequence(NamedTuple):
    """An annotated sequence; the first `presence.sum()` of its M places for digits are in use."""

    images: np.ndarray  # [T, H, W, 1] uint8
    boxes: np.ndarray  # [T, M, 4] float32 (y, x, h, w) in pixels, of the whole digit, zeros without it
    visible: np.ndarray  # [T, M] float32, share of the box's area on the canvas
    labels: np.ndarray  # [M] int32, -1 where there is no digit
    presence: np.ndarray  # [M] uint8


def write(
    directory,
    name,
    digits,
    layout,
    make_chunk,
    counts,
    seed,
    options,
    num_workers=None,
    overwrite=False,
    progress=False,
):
    """Writes a data set into a folder, wholly or not at all.

    Args:
        directory: path of a folder that does not exist or is empty.
        name: str, what the data set is called in its index.
        digits: `mnist.DigitSplits`.
        layout: `storage.Layout`.
        make_chunk: function of the digits of a split, the split, the number of the chunk and how many of its
            sequences to make; gives that many `Sequence`s, the first ones of the chunk.
        counts: dict of split -> number of sequences.
        seed: int, at least 0, for the index.
        options: dict that can be written as JSON, for the index.
        num_workers: number of processes that make sequences; None: one for each core.
        overwrite: whether a data set in `directory` is replaced.
        progress: whether to show a progress bar on a terminal.

    Returns:
        Dict, the content of `dataset.json`; `["splits"][split]["statistics"]` describes the sequences.

    Raises:
        UserError: if the folder cannot be written or is in use.
    """
    with staged_folder(directory, overwrite) as folder:
        entries = _write_splits(folder, digits, layout, make_chunk, counts, num_workers, progress)
        return storage.write_index(folder, layout, entries, name=name, seed=seed, options=options)


def random_stream(seed, split, number):
    """The `np.random.Generator` of a chunk."""
    stream = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), number))
    return np.random.Generator(np.random.PCG64(stream))


def visible_share(boxes, canvas_size):
    """Share of each box's area on the canvas: `[...]` float32 from `[..., 4]`; 0 for boxes without area.

    `canvas_size` is (H, W).
    """
    corners, sizes = boxes[..., :2], boxes[..., 2:]
    on_canvas = np.clip(corners + sizes, 0, canvas_size) - np.clip(corners, 0, canvas_size)
    area = sizes[..., 0] * sizes[..., 1]
    share = on_canvas[..., 0] * on_canvas[..., 1] / np.where(area > 0, area, 1)
    return share.astype(np.float32)


def _write_splits(folder, digits, layout, make_chunk, counts, num_workers, progress):
    """Writes the records of every split; returns a dict of split -> what the index holds about it."""
    tasks = [(split, number) for split in SPLITS for number in range(-(-counts[split] // CHUNK_SEQUENCES))]

    def work(task):
        split, number = task
        count = min(CHUNK_SEQUENCES, counts[split] - number * CHUNK_SEQUENCES)
        pixel_sum = np.zeros(layout.image_shape, np.uint64)
        records, annotations = [], []
        for sequence in make_chunk(getattr(digits, split), split, number, count):
            records.append(storage.encode(layout, sequence._asdict()))
            pixel_sum += sequence.images.sum(0, np.uint64)
            annotations.append((sequence.boxes, sequence.visible, sequence.presence))
        return (
            split,
            tfrecords.frame(records),
            pixel_sum,
            statistics.totals(pixel_sum, *map(np.stack, zip(*annotations))),
        )

    bar = tqdm(total=sum(counts.values()), unit=" sequences", disable=None if progress else True)
    writers = {split: storage.SplitWriter(folder, split, layout, counts[split]) for split in SPLITS}
    totals = dict.fromkeys(SPLITS, 0.0)
    with contextlib.ExitStack() as stack:
        for writer in writers.values():
            stack.enter_context(writer)
        stack.enter_context(bar)
        results = stack.enter_context(workers.ordered_map(work, tasks, num_workers))
        for split, framed_records, pixel_sum, chunk_totals in results:
            writers[split].write(framed_records, pixel_sum)
            totals[split] = totals[split] + chunk_totals
            bar.update(len(framed_records))
    entries = {split: writers[split].entry() for split in SPLITS}
    for split in SPLITS:
        entries[split]["statistics"] = statistics.describe(totals[split])
        entries[split]["digits_sha256"] = hashlib.sha256(getattr(digits, split).images.tobytes()).hexdigest()
    return entries
