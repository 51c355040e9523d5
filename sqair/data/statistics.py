# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers that tell whether a data set of moving digits is what it should be."""

import numpy as np

_TOTALS = ("frames", "pixels", "digit_frames", "height", "width", "invisible", "under_quarter", "visible")


def totals(pixel_sum, boxes, visible, presence):
    """Sums over n sequences, which may be added up.

    Args:
        pixel_sum: `[H, W, C]` sum of all frames' uint8 pixels.
        boxes: `[n, T, M, 4]` (y, x, h, w) in pixels, without area where an object is not in the frame.
        visible: `[n, T, M]` share of each box on the canvas.
        presence: `[n, M]` 1 or 0.

    Returns:
        `[8]` float64, for `describe`.
    """
    present = presence[:, None].astype(bool) & np.all(boxes[..., 2:] > 0, axis=-1)
    height, width = boxes[present][:, 2:].sum(0, np.float64)
    visible_now = visible[present].astype(np.float64)
    counts = (visible_now == 0).sum(), (visible_now < 0.25).sum()
    pixels = pixel_sum.sum() / (255.0 * pixel_sum.size)
    frames = len(boxes) * boxes.shape[1]
    return np.array([frames, pixels, len(visible_now), height, width, *counts, visible_now.sum()], np.float64)


def describe(totals):
    """What describes sequences: dict of means over frames, and over all frames of all digits."""
    total = dict(zip(_TOTALS, totals.tolist()))
    digit_frames = max(total["digit_frames"], 1.0)
    return {
        "mean_pixel": total["pixels"] / total["frames"],
        "digits_per_frame": total["digit_frames"] / total["frames"],
        "mean_digit_height": total["height"] / digit_frames,
        "mean_digit_width": total["width"] / digit_frames,
        "invisible_share": total["invisible"] / digit_frames,
        "under_quarter_share": total["under_quarter"] / digit_frames,
        "visible_share": total["visible"] / digit_frames,
    }
