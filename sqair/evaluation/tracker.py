# SPDX-License-Identifier: GPL-3.0-or-later
"""From frames to tracks: a trained model as an online tracker, for videos of any length."""

from typing import Any, NamedTuple

import numpy as np

from sqair.engine.tensors import take_slots
from sqair.engine.unroll import unroll
from sqair.errors import UserError
from sqair.evaluation.restored_model import RestoredModel, require_sqair
from sqair.evaluation.tight_boxes import tight_boxes
from sqair.files import atomic_write
from sqair.graph_mode import tf
from sqair.model import noise
from sqair.model.spatial_transformer import boxes_from_logits

CHUNK = 32  # frames in memory at once; more are not faster


class Tracks(NamedTuple):
    """What the model sees in T frames: NumPy arrays, N slots a frame, present objects first."""

    boxes: Any  # [T, N, 4] (y, x, h, w) in pixels: the glimpse that an object is read from and drawn into
    tight_boxes: Any  # [T, N, 4] around what is drawn of it
    ids: Any  # [T, N] int, an object's number from its discovery on, from 0; -1 in absent slots
    presence: Any  # [T, N] bool
    presence_prob: (
        Any  # [T, N] float in [0, 1], the posterior's probability of what is present; 0 in absent slots
    )
    what: Any  # [T, N, Z] appearance codes, 0 in absent slots
    where: Any  # [T, N, 4] logits (sx, sy, tx, ty), see `sqair.model.spatial_transformer`
    glimpses: Any  # [T, N, g, g, C] what is drawn of each object
    reconstruction: Any  # [T, H, W, C] in [0, 1]
    first_frame: int = 0  # number of the first of the T frames in its video

    def rows(self, tight=True):
        """The present objects, frame by frame: yields (frame, id, y, x, height, width, presence_prob)."""
        boxes = self.tight_boxes if tight else self.boxes
        for t, n in zip(*np.nonzero(self.presence)):
            yield (
                self.first_frame + int(t),
                int(self.ids[t, n]),
                *map(float, boxes[t, n]),
                float(self.presence_prob[t, n]),
            )

    def to_mot_csv(self, path, tight=True):
        """Writes a file as MOTChallenge's: frame and id from 1, left, top, width, height, confidence, -1, -1, -1.

        Left and top count from 1 as well.

        Raises:
            UserError: if it can't be written.
        """
        with atomic_write(path) as file:
            file.writelines(mot_line(row) for row in self.rows(tight))

    def to_dataframe(self, tight=True):
        """A `pandas.DataFrame` with a row for each present object, columns as of `rows`."""
        import pandas

        columns = ["frame", "id", "y", "x", "height", "width", "presence_prob"]
        return pandas.DataFrame(list(self.rows(tight)), columns=columns)


def mot_line(row):
    """A line of a MOTChallenge file from one of `Tracks.rows`."""
    frame, object_id, y, x, height, width, confidence = row
    return f"{frame + 1},{object_id + 1},{x + 1:.2f},{y + 1:.2f},{width:.2f},{height:.2f},{confidence:.4f},-1,-1,-1\n"


def join(parts):
    """One `Tracks` from several that follow each other."""
    arrays = (np.concatenate(field) for field in list(zip(*parts))[:-1])
    return Tracks(*arrays, parts[0].first_frame)


class Tracker(RestoredModel):
    """A trained model that follows the objects of one video at a time, from its first frame on.

    By default without chance: every Gaussian at its mean, every presence at its more probable value.
    """

    def __init__(self, make_model, image_shape, values, source="the checkpoint", seed=None, num_threads=0):
        """Builds the graph.

        Args:
            make_model, image_shape, values, source, num_threads: as of `RestoredModel`.
            seed: int, to sample from the posterior; None to take its mode.

        Raises:
            UserError: if a variable is missing or has another shape.
        """
        self._seed = seed
        super().__init__(make_model, image_shape, values, source, num_threads)
        self._first_state = self._session.run(self._start)
        self.reset()

    def reset(self):
        """Forgets the video: the next frame is the first of another."""
        self._state, self._frame = self._first_state, 0

    def track(self, frames):
        """Follows the objects of a whole video.

        Args:
            frames: `[T, H, W]` or `[T, H, W, C]`, uint8, or float in [0, 1]; of the size that the model was trained
                on; C is 1 or the model's.

        Returns:
            `Tracks`.

        Raises:
            UserError: if the frames do not fit.
        """
        return join(list(self.stream(frames)))

    def stream(self, frames):
        """As `track`, for videos that do not fit into memory.

        Args:
            frames: an iterable of frames, each as one of `track`.

        Yields:
            `Tracks` of the next frames, `CHUNK` at most.
        """
        self.reset()
        chunk = []
        for frame in frames:
            chunk.append(self._checked(frame))
            if len(chunk) == CHUNK:
                yield self._run(chunk)
                chunk = []
        if chunk:
            yield self._run(chunk)
        elif not self._frame:
            raise UserError("`frames` holds no frame; at least one is needed.")

    def step(self, frame):
        """Goes on with the next frame of a video, for live use.

        Args:
            frame: `[H, W]` or `[H, W, C]`, as one of `track`.

        Returns:
            `Tracks` of this frame, T = 1.
        """
        return self._run([self._checked(frame)])

    def decode(self, tracks):
        """Draws tracks again, after their presence, where or what was changed.

        Args:
            tracks: `Tracks`; of these three fields everything else follows.

        Returns:
            `Tracks` with boxes, tight boxes, glimpses and reconstruction of what is given.
        """
        feed = dict(zip(self._latents, (np.float32(tracks.presence), tracks.where, tracks.what)))
        drawn = {name: getattr(self._tracks, name) for name in ("boxes", "glimpses", "reconstruction")}
        return self._tightened(tracks._replace(**self._session.run(drawn, feed)))

    def _tightened(self, tracks):
        tight = tight_boxes(tracks.boxes, tracks.glimpses, self.image_shape)
        return tracks._replace(tight_boxes=tight)

    def _run(self, frames):
        """`Tracks` of frames that follow the last one."""
        feed = {self._images: np.stack(frames)[:, None], self._number: self._frame}
        feed.update(zip(tf.nest.flatten(self._state_in), tf.nest.flatten(self._state)))
        tracks, self._state = self._session.run((self._tracks, self._state_out), feed)
        tracks = tracks._replace(first_frame=self._frame)
        self._frame += len(frames)
        return self._tightened(tracks._replace(presence=tracks.presence > 0.5, ids=tracks.ids.astype(int)))

    def _build(self, model):
        require_sqair(model, "Tracking")
        self._images = tf.placeholder(tf.float32, [None, 1, *self.image_shape], "images")
        self._number = tf.placeholder(tf.int64, [], "frame")
        self._start = model.cell.initial_state(1)
        self._state_in = tf.nest.map_structure(lambda x: tf.placeholder(x.dtype, x.shape), self._start)
        inputs = model.encode(self._images, self._noise(model))
        outputs, (self._state_out,) = unroll(model.cell, inputs, particles=1, first_state=self._state_in)
        kept = tf.nest.map_structure(lambda x: x[:, 0], outputs.kept)
        presence = kept.presence[..., 0]
        self._latents = presence, kept.where, kept.what
        self._tracks = Tracks(
            boxes=boxes_from_logits(kept.where, self.image_shape[:2]),
            tight_boxes=(),
            ids=kept.object_ids[..., 0],
            presence=presence,
            presence_prob=presence * _kept_probability(outputs),
            what=kept.what,
            where=kept.where,
            glimpses=model.decoder.glimpses(kept.what, presence),
            reconstruction=tf.clip_by_value(model.decoder(kept.what, kept.where, presence).mean, 0.0, 1.0),
            first_frame=(),
        )

    def _noise(self, model):
        """`FrameNoise` of `[T, 1, 1, N, n]`; that of a frame depends on its number alone."""
        length = tf.shape(self._images)[0]
        if self._seed is None:
            return noise.mode(length, 1, 1, model.noise)
        numbers = self._number + tf.range(tf.cast(length, tf.int64))
        by_frame = noise.draw_by_sequence(self._seed, numbers, 1, 1, model.noise)  # [1, T, 1, N, n]
        return tf.nest.map_structure(lambda x: tf.transpose(x, [1, 0, *range(2, x.shape.ndims)]), by_frame)


def _kept_probability(outputs):
    """Posterior probability of each kept object, `[T, N]`, from `CellOutputs` of `[T, 1, ...]`."""
    logits = tf.concat([outputs.propagated.sampled.presence_logit, outputs.discovered.presence_logit], axis=2)
    slots = tf.cast(outputs.kept.slots[:, 0, :, 0], tf.int32)
    return tf.sigmoid(take_slots(logits[:, 0], slots)[..., 0])
