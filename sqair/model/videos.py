# SPDX-License-Identifier: GPL-3.0-or-later
"""What models of objects do with a video around their cell: check noise, encode frames, draw and weigh objects."""

from sqair.engine.tensors import check_finite, check_shape, merge_leading, size, split_leading
from sqair.graph_mode import tf
from sqair.model import spatial_transformer
from sqair.model.structures import FrameInputs, SequenceOutputs


def checked_noise(noise, wanted, leading=(None, None)):
    """The noise of slots, checked, with five dimensions.

    Args:
        noise: structure of `[T, B, K, N, n]` for what and where, `[T, B, K, N]` for presence.
        wanted: the same structure of `sqair.model.noise.Wanted`.
        leading: T and B, None if unknown.

    Returns:
        The structure of `[T, B, K, N, n]`.

    Raises:
        ValueError: if a shape is another.
    """

    def checked(x, kind):
        check_shape(x, [*leading, None, *kind.shape], f"noise of {kind.field}")
        return x[..., None] if len(kind.shape) == 1 else x

    return tf.nest.map_structure(checked, noise, wanted)


def merge_rows(noise):
    """A structure of `[T, B, K, N, n]` to one of `[T * R, N, n]`."""
    return tf.nest.map_structure(lambda x: merge_leading(merge_leading(x)), noise)


def encode(images, noise, wanted, image_shape, image_encoder, num_features):
    """What a cell reads frame by frame.

    Args:
        images: `[T, B, H, W, C]` float32 in [0, 1].
        noise, wanted: as of `checked_noise`.
        image_shape: tuple (H, W, C).
        image_encoder: module that maps images `[n, H, W, C]` to `[n, D]`.
        num_features: int D.

    Returns:
        `FrameInputs` of `[T, B, ...]`.

    Raises:
        ValueError: if images and noise do not fit each other or the model.
    """
    check_shape(images, [None, None, *image_shape], "images")
    noise = checked_noise(noise, wanted, images.shape.as_list()[:2])
    frames, batch_size = merge_leading(images), size(images, axis=1)
    encodings = image_encoder(frames)
    check_shape(encodings, [None, num_features], "what image_encoder returns")
    padded = spatial_transformer.pad_images(frames)
    return FrameInputs(split_leading(padded, batch_size), split_leading(encodings, batch_size), noise)


def describe(images, steps, particles, decoder, debug=False):
    """Draws the objects of all frames, and weighs them: log w = log p(x | z) + log p(z) - log q(z | x).

    Args:
        images: `[T, B, H, W, C]` float32 in [0, 1].
        steps: `StepOutputs` of `[T, R, ...]`.
        particles: int K.
        decoder: `sqair.model.decoder.Decoder`.
        debug: bool, check every tensor of the result for NaN and infinity.

    Returns:
        `SequenceOutputs`.
    """
    canvas, log_likelihoods, glimpses = decoder.render(images, steps.latents, particles)
    log_weights = log_likelihoods + steps.log_p - steps.log_q
    outputs = SequenceOutputs(steps, canvas, glimpses, log_likelihoods, log_weights)
    return check_finite(outputs, "model") if debug else outputs
