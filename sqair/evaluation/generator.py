# SPDX-License-Identifier: GPL-3.0-or-later
"""Videos that a trained model imagines: samples from its prior, and how videos may go on."""

import itertools
from typing import Any, NamedTuple

import numpy as np

from sqair.data import array_files
from sqair.data.pipeline import SequenceDataset
from sqair.errors import UserError
from sqair.evaluation.evaluator import NUM_SEEDS
from sqair.evaluation.restored_model import RestoredModel, require_sqair
from sqair.files import atomic_write
from sqair.graph_mode import tf
from sqair.model import noise
from sqair.model.spatial_transformer import boxes_from_logits
from sqair.model.structures import GeneratedSequence

MAX_BYTES = 2**32  # of one result
_AT_ONCE = 64  # videos in the graph; more are not faster


class GeneratedVideos(NamedTuple):
    """B videos of T frames: NumPy arrays, N slots a frame, present objects first, as `visualization` takes them."""

    reconstruction: Any  # [T, B, H, W, C] in [0, 1]
    boxes: Any  # [T, B, N, 4] (y, x, h, w) in pixels
    presence: Any  # [T, B, N] bool
    ids: Any  # [T, B, N] int, an object's number from its first frame on, from 0; -1 in absent slots
    what: Any  # [T, B, N, Z] appearance codes, 0 in absent slots
    where: Any  # [T, B, N, 4] logits (sx, sy, tx, ty), 0 in absent slots
    glimpses: Any  # [T, B, N, g, g, C] what is drawn of each object
    num_observed: int = 0  # of the T frames, the first ones: there the model saw a video, and reconstructs it

    def to_npz(self, path):
        """Writes the arrays into a file, under the names of the fields.

        Raises:
            UserError: if it can't be written.
        """
        with atomic_write(path, "wb") as file:
            np.savez_compressed(file, **self._asdict())


def join(parts):
    """One `GeneratedVideos` of the videos of several, which have as many frames each."""
    arrays = (np.concatenate(field, axis=1) for field in list(zip(*parts))[:-1])
    return GeneratedVideos(*arrays, parts[0].num_observed or 0)


class Generator(RestoredModel):
    """A trained model that imagines videos. The same seed gives the same videos, one by one."""

    def __init__(
        self, make_model, image_shape, values, source="the checkpoint", sample_posterior=False, num_threads=0
    ):
        """Builds the graph.

        Args:
            make_model, image_shape, values, source, num_threads: as of `RestoredModel`.
            sample_posterior: bool: is what is observed inferred anew for each of its futures, by a sample from the
                posterior, or once, by its mode?

        Raises:
            UserError: if a variable is missing or has another shape.
        """
        self._sample_posterior = sample_posterior
        super().__init__(make_model, image_shape, values, source, num_threads)

    def sample(self, num_sequences, num_frames, seed=0):
        """Samples from the prior: no frame is seen.

        Args:
            num_sequences, num_frames: ints B and T, at least 1.
            seed: int, at least 0.

        Returns:
            `GeneratedVideos`.

        Raises:
            UserError: if an argument is out of range, or the result would exceed `MAX_BYTES`.
        """
        numbers = self._checked_numbers("num_sequences", 0, num_sequences, num_frames, num_frames, seed)
        return self._run(self._sampled, {self._seed: seed, self._length: num_frames}, numbers)

    def continue_video(self, frames, num_frames, num_futures=1, seed=0, first_future=0):
        """How a video may go on: its frames are observed, all that follows is the prior's.

        Objects that are present at the end keep their ids; new ones appear as the prior expects.

        Args:
            frames: `[t, H, W]` or `[t, H, W, C]`, uint8, or float in [0, 1], at least one; as of `Tracker.track`.
            num_frames: int, how many follow, at least 1.
            num_futures: int B, in how many ways, at least 1.
            seed: int, at least 0.
            first_future: int, at least 0, number of the first way: other numbers, other noise, for other videos too.

        Returns:
            `GeneratedVideos` of t + num_frames frames; in the first t is what is inferred, the same in all videos
            unless the posterior is sampled.

        Raises:
            UserError: if the frames do not fit or an argument is out of range.
        """
        frames = [self._checked(frame) for frame in frames]
        if not frames:
            raise UserError("`frames` holds no frame; at least one is needed.")
        length = len(frames) + num_frames
        numbers = self._checked_numbers("num_futures", first_future, num_futures, num_frames, length, seed)
        feed = {self._images: np.stack(frames)[:, None], self._seed: seed, self._length: length}
        return self._run(self._continued, feed, numbers)._replace(num_observed=len(frames))

    def _checked_numbers(self, name, first, count, num_frames, length, seed):
        """The numbers of the videos, which key their noise; `name`: of the argument that says how many there are."""
        for argument, value, least in (
            (name, count, 1), ("num_frames", num_frames, 1), ("seed", seed, 0), ("first_future", first, 0)
        ):  # fmt: skip
            if not least <= value < NUM_SEEDS:
                raise UserError(f"`{argument}={value}` is refused: it takes {least} to {NUM_SEEDS - 1}.")
        num_bytes = length * count * self._frame_bytes
        if num_bytes > MAX_BYTES:
            raise UserError(
                f"`{name}={count}` is refused: with {length} frames each they take {num_bytes / 2**30:.1f} GiB of"
                f" memory; ask for {MAX_BYTES / 2**30:.0f} at most."
            )
        return np.arange(first, first + count)

    def _run(self, fetches, feed, numbers):
        """`GeneratedVideos`, `_AT_ONCE` at a time."""
        parts = []
        for first in range(0, len(numbers), _AT_ONCE):
            some = {**feed, self._numbers: numbers[first : first + _AT_ONCE]}
            found = self._session.run(fetches, some)
            parts.append(found._replace(presence=found.presence > 0.5, ids=found.ids.astype(int)))
        return join(parts)

    def _build(self, model):
        require_sqair(model, "Generation")
        self._images = tf.placeholder(tf.float32, [None, 1, *self.image_shape], "images")
        self._numbers = tf.placeholder(tf.int64, [None], "numbers")
        self._length = tf.placeholder(tf.int32, [], "length")
        self._seed = tf.placeholder(tf.int64, [], "seed")
        drawn = noise.draw_by_sequence(self._seed, self._numbers, self._length, 1, model.noise)
        self._sampled = self._videos(model.generate(drawn))
        self._frame_bytes = sum(4 * int(np.prod(x.shape.as_list()[2:])) for x in self._sampled[:-1])

        num_observed, num_videos = tf.shape(self._images)[0], tf.size(self._numbers)
        at_first, later = [
            tf.nest.map_structure(lambda x, part=part: x[part], drawn)
            for part in (slice(num_observed), slice(num_observed, None))
        ]
        if self._sample_posterior:
            observed = tf.tile(self._images, tf.stack([1, num_videos, 1, 1, 1])), at_first
            rows = tf.range(num_videos)
        else:
            observed = self._images, noise.mode(num_observed, 1, 1, model.noise)
            rows = tf.zeros_like(self._numbers)
        seen, state = model.infer(*observed)
        state = tf.nest.map_structure(lambda x: tf.gather(x, rows), state)
        seen = tf.nest.map_structure(lambda x: tf.gather(x, rows, axis=1), _as_generated(seen))
        both = zip(seen, model.generate(later, state))
        self._continued = self._videos(GeneratedSequence(*(tf.concat(field, axis=0) for field in both)))

    def _videos(self, sequence):
        """`GeneratedVideos` of tensors."""
        return GeneratedVideos(
            reconstruction=tf.clip_by_value(sequence.canvas, 0.0, 1.0),
            boxes=boxes_from_logits(sequence.where, self.image_shape[:2]),
            presence=sequence.presence,
            ids=sequence.object_ids,
            what=sequence.what,
            where=sequence.where,
            glimpses=sequence.glimpses,
            num_observed=(),  # not a tensor
        )


def _as_generated(outputs):
    """`GeneratedSequence` of `SequenceOutputs`."""
    latents = outputs.steps.latents
    here = tf.expand_dims(latents.presence, -1)
    values = here * latents.what, here * latents.where, latents.presence, outputs.steps.object_ids
    return GeneratedSequence(*values, outputs.canvas, outputs.glimpses)


def read_videos(path, num_videos, num_frames):
    """The first videos of a data set's validation sequences, or of a file.

    Args:
        path: str, the folder of a data set, or a file as of `array_files.read_videos`.
        num_videos: int, how many.
        num_frames: int, the most frames to read of each.

    Returns:
        List of `[T, H, W, C]` arrays, uint8 or floats in [0, 1].

    Raises:
        UserError: if they can't be read, or there are not as many.
    """
    if path.lower().endswith(array_files.ENDINGS):
        found = [
            np.stack([frame for t, frame in enumerate(frames) if t < num_frames])
            for _, frames in itertools.islice(array_files.read_videos(path), num_videos)
        ]
    else:
        dataset = SequenceDataset(path, "valid")
        with tf.Graph().as_default(), tf.Session() as session:
            batches = dataset.batches(min(num_videos, dataset.num_sequences), repeat=False)
            images = tf.data.make_one_shot_iterator(batches).get_next().images[:num_frames]
            found = list(np.swapaxes(session.run(images), 0, 1))
    if len(found) < num_videos:
        raise UserError(f"`num_sequences={num_videos}` is refused: {path!r} has {len(found)}.")
    return found
