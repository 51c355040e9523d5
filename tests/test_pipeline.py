# SPDX-License-Identifier: GPL-3.0-or-later
import collections
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_data_set import NUM_TRAIN, NUM_VALID, SHARD, sharded_sequences, sharded_set

from sqair.data import storage, tfrecords
from sqair.data.pipeline import Order, SequenceDataset
from sqair.graph_mode import tf


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sharded_set(str(tmp_path_factory.mktemp("data") / "set"))


@pytest.fixture(scope="module")
def sequences():
    return sharded_sequences()


def fetch(dataset, count=None):
    """The first `count` batches as NumPy, or all of them."""
    batches = []
    with tf.Graph().as_default(), tf.Session() as session:
        batch = tf.data.make_one_shot_iterator(dataset()).get_next()
        while count is None or len(batches) < count:
            try:
                batches.append(session.run(batch))
            except tf.errors.OutOfRangeError:
                break
    return batches


def check_batch(batch, wanted):
    assert batch.images.shape == (4, len(wanted), 30, 40, 1)
    for b, sequence in enumerate(wanted):
        np.testing.assert_allclose(batch.images[:, b], sequence.images / 255.0, atol=1e-7)
        np.testing.assert_array_equal(batch.boxes[:, b], sequence.boxes)
        np.testing.assert_array_equal(batch.presence[:, b], np.tile(sequence.presence, (4, 1)))
        np.testing.assert_array_equal(batch.labels[b], sequence.labels)
        np.testing.assert_array_equal(batch.visible[:, b], sequence.visible)
    assert [field.dtype for field in batch] == [np.float32, np.float32, np.float32, np.int32, np.float32]


def test_one_pass_in_order(folder, sequences):
    dataset = SequenceDataset(folder, "train")
    batches = fetch(lambda: dataset.batches(10, repeat=False))
    assert [batch.images.shape[1] for batch in batches] == [10, 10, 10, 10, 5]
    for number, batch in enumerate(batches):
        check_batch(batch, sequences[10 * number : 10 * number + 10])


def test_attributes(folder, sequences):
    dataset = SequenceDataset(folder, "train")
    assert (dataset.num_sequences, dataset.seq_len, dataset.max_objects) == (NUM_TRAIN, 4, 3)
    assert dataset.image_shape == (30, 40, 1)
    mean = np.mean([sequence.images for sequence in sequences], axis=(0, 1)) / 255.0
    assert dataset.mean_image().dtype == np.float32
    np.testing.assert_allclose(dataset.mean_image(), mean, atol=1e-7)
    assert SequenceDataset(folder, "valid").num_sequences == NUM_VALID


@pytest.mark.parametrize("seed", [None, 3])
def test_seeking_continues_as_if_nothing_was_left_out(folder, sequences, seed):
    dataset = SequenceDataset(folder, "train")
    through = fetch(lambda: dataset.batches(8, seed=seed), 13)  # two epochs and some
    order = Order(NUM_TRAIN, seed).sequences(0, 13 * 8)
    for number, batch in enumerate(through):
        check_batch(batch, [sequences[i] for i in order[8 * number : 8 * number + 8]])
    for start in (1, 5, 12):
        resumed = fetch(lambda start=start: dataset.batches(8, seed=seed, start=start), 13 - start)
        for one, other in zip(resumed, through[start:]):
            for left, right in zip(one, other):
                np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("count", [2, 3])
def test_parts_of_batches_are_the_batches(folder, count):
    """In order, from any start on, where an epoch ends within a batch as well; a part reads nothing else."""
    dataset = SequenceDataset(folder, "train")
    options = dict(seed=3, start=1)
    whole = fetch(lambda: dataset.batches(6, **options), 8)
    parts = [fetch(lambda i=i: dataset.batches(6, part=(i, count), **options), 8) for i in range(count)]
    for batch, *of_parts in zip(whole, *parts):
        assert {part.images.shape[1] for part in of_parts} == {6 // count}
        for name in ("images", "boxes", "presence", "visible"):
            joined = np.concatenate([getattr(part, name) for part in of_parts], axis=1)
            np.testing.assert_array_equal(joined, getattr(batch, name))
    for impossible in (dict(part=(0, 4)), dict(part=(0, 2), repeat=False)):
        with pytest.raises(ValueError, match="equal parts"):
            dataset.batches(6, **impossible)


def test_start_without_repetition(folder, sequences):
    dataset = SequenceDataset(folder, "train")
    (batch,) = fetch(lambda: dataset.batches(10, start=4, repeat=False))
    check_batch(batch, sequences[40:])
    assert fetch(lambda: dataset.batches(10, start=5, repeat=False)) == []
    assert fetch(lambda: dataset.batches(10, start=99, repeat=False)) == []


def test_a_start_far_away_is_reached_at_once(folder):
    assert len(fetch(lambda: SequenceDataset(folder, "train").batches(32, seed=1, start=10**12), 1)) == 1


def test_batches_larger_than_the_split(folder):
    dataset = SequenceDataset(folder, "valid")
    (batch,) = fetch(lambda: dataset.batches(3 * NUM_VALID, seed=0), 1)
    whole = fetch(lambda: dataset.batches(NUM_VALID), 1)[0]
    once = collections.Counter(whole.images[:, b].tobytes() for b in range(NUM_VALID))
    assert (
        collections.Counter(batch.images[:, b].tobytes() for b in range(3 * NUM_VALID)) == once + once + once
    )
    assert fetch(lambda: dataset.batches(100, repeat=False))[0].images.shape[1] == NUM_VALID


def test_static_shapes(folder):
    dataset = SequenceDataset(folder, "train")
    for repeat, size in ((True, 5), (False, None)):
        batch = tf.data.make_one_shot_iterator(dataset.batches(5, repeat=repeat)).get_next()
        shapes = [field.shape.as_list() for field in batch]
        assert shapes == [[4, size, 30, 40, 1], [4, size, 3, 4], [4, size, 3], [size, 3], [4, size, 3]]


def write(path, boxes):
    """A data set of one sequence in each split, of black frames and these `[T, M, 4]` boxes."""
    seq_len, max_objects = boxes.shape[:2]
    layout = storage.Layout(seq_len, (5, 6, 3), max_objects)
    arrays = {name: np.ones(shape, dtype) for name, dtype, shape in layout.fields}
    entries = {}
    for split in ("train", "valid"):
        with storage.SplitWriter(path, split, layout, 1) as writer:
            writer.write(tfrecords.frame([storage.encode(layout, dict(arrays, boxes=boxes))]), 0)
        entries[split] = writer.entry()
    storage.write_index(path, layout, entries)
    return path


def test_an_object_without_a_box_in_a_frame_is_not_in_it(tmp_path):
    boxes = np.float32([[[1, 2, 3, 4], [0, 0, 0, 0]], [[0, 0, 0, 0], [-9, -9, 1, 1]]])
    batch = SequenceDataset(write(str(tmp_path), boxes), "train").first(1)
    assert batch.presence[:, 0].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("repeat", [True, False])
def test_a_data_set_without_annotations(tmp_path, repeat):
    dataset = SequenceDataset(write(str(tmp_path), np.zeros((2, 0, 4), np.float32)), "train")
    batch = fetch(lambda: dataset.batches(1, repeat=repeat), 1)[0]
    shapes = [(2, 1, 5, 6, 3), (2, 1, 0, 4), (2, 1, 0), (1, 0), (2, 1, 0)]
    assert [field.shape for field in batch] == shapes and dataset.max_objects == 0


def test_the_first_sequences(folder, sequences):
    dataset = SequenceDataset(folder, "valid")
    check_batch(SequenceDataset(folder, "train").first(3), sequences[:3])
    assert dataset.first(100).images.shape[1] == NUM_VALID


def test_arguments_out_of_range(folder):
    dataset = SequenceDataset(folder, "train")
    for arguments in (dict(batch_size=0), dict(batch_size=2, start=-1), dict(batch_size=2, seed=-3)):
        with pytest.raises(ValueError, match="at least"):
            dataset.batches(**arguments)


@settings(max_examples=50, deadline=None)
@given(
    num_sequences=st.integers(1, 40),
    seed=st.one_of(st.none(), st.integers(0, 2**40)),
    first=st.integers(0, 200),
    count=st.integers(1, 90),
)
def test_order_is_a_permutation_of_each_epoch(num_sequences, seed, first, count):
    order = Order(num_sequences, seed)
    epochs = [
        order.sequences(e * num_sequences, (e + 1) * num_sequences) for e in range(300 // num_sequences + 1)
    ]
    for epoch in epochs:
        assert sorted(epoch) == list(range(num_sequences))
    one_by_one = [epochs[p // num_sequences][p % num_sequences] for p in range(first, first + count)]
    np.testing.assert_array_equal(Order(num_sequences, seed).sequences(first, first + count), one_by_one)


def test_order_depends_on_seed_and_epoch():
    epochs = [
        Order(50, seed).sequences(50 * epoch, 50 * epoch + 50) for seed in (0, 1) for epoch in (0, 1, 2)
    ]
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert list(Order(5, 0).sequences(0, 5)) == [3, 2, 1, 0, 4]  # fixed for ever: resumed runs depend on it


def test_a_shard_that_shrinks_while_it_is_read(folder, tmp_path):
    path = str(tmp_path / "copy")
    shutil.copytree(folder, path)
    dataset = SequenceDataset(path, "train")
    os.truncate(os.path.join(path, SHARD), 100)
    with pytest.raises(tf.errors.OpError, match="became shorter"):
        fetch(lambda: dataset.batches(45), 1)


def test_an_open_data_set_outlives_its_folder(folder, tmp_path, sequences):
    """A run goes on with the data that it started with when the data set is replaced."""
    path = str(tmp_path / "copy")
    shutil.copytree(folder, path)
    dataset = SequenceDataset(path, "train")
    shutil.rmtree(path)
    check_batch(fetch(lambda: dataset.batches(5), 1)[0], sequences[:5])


def test_some_of_the_sequences_are_a_data_set_too(folder, sequences):
    whole = SequenceDataset(folder, "train")
    numbers = [41, 3, 25, 17, 2]
    some = whole.only(numbers)
    assert (some.num_sequences, whole.num_sequences, some.seq_len) == (5, NUM_TRAIN, 4)
    wanted = [sequences[number] for number in numbers]
    del whole
    first, last = fetch(lambda: some.batches(3, repeat=False))
    check_batch(first, wanted[:3])
    check_batch(last, wanted[3:])
    check_batch(some.only([1, 4]).first(2), [wanted[1], wanted[4]])
    shuffled = fetch(lambda: some.batches(5, seed=1), 1)[0]
    assert sorted(map(tuple, shuffled.labels)) == sorted(tuple(sequence.labels) for sequence in wanted)


def test_labels_of_all_sequences(folder, sequences):
    labels = SequenceDataset(folder, "train").labels()
    np.testing.assert_array_equal(labels, [sequence.labels for sequence in sequences])
    np.testing.assert_array_equal(SequenceDataset(folder, "train").only([9, 4]).labels(), labels[[9, 4]])
