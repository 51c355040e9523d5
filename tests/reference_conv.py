# SPDX-License-Identifier: GPL-3.0-or-later
"""Oracle of convolutional networks: loops over pixels, float64 NumPy. Images are `[h, w, maps]`, one at a time."""

import numpy as np
from reference_parts import elu


def convolution(image, weights, bias, stride=1):
    """Each output pixel is a 3x3 window times the kernel; beyond the image are zeros.

    An output of ceil(h / stride) rows needs `(ceil(h / stride) - 1) * stride + 3` rows of input: what is missing is
    added on both sides, of an odd number more after than before, as TensorFlow's padding SAME does.
    """
    height, width, _ = image.shape
    rows, columns = -(-height // stride), -(-width // stride)
    above = max((rows - 1) * stride + 3 - height, 0) // 2
    before = max((columns - 1) * stride + 3 - width, 0) // 2
    out = np.zeros((rows, columns, weights.shape[3]))
    for i in range(rows):
        for j in range(columns):
            for a in range(3):
                for b in range(3):
                    y, x = i * stride + a - above, j * stride + b - before
                    if 0 <= y < height and 0 <= x < width:
                        out[i, j] += image[y, x] @ weights[a, b]
    return out + bias


def shuffle(maps):
    """Sub-pixels (Shi et al. 2016, eq. 4): map `(a * 2 + b) * C + c` is channel c of the pixels (2 i + a, 2 j + b)."""
    height, width, count = maps.shape
    channels = count // 4
    out = np.zeros((2 * height, 2 * width, channels))
    for i in range(2 * height):
        for j in range(2 * width):
            for c in range(channels):
                out[i, j, c] = maps[i // 2, j // 2, ((i % 2) * 2 + j % 2) * channels + c]
    return out


def encoder(p, image):
    """`p`: dict of names below the module -> arrays; `[H, W, C]` to `[D]`."""
    layer = 0
    while f"convolution_{layer}/w" in p:
        image = elu(convolution(image, p[f"convolution_{layer}/w"], p[f"convolution_{layer}/b"], stride=2))
        layer += 1
    return elu(image.reshape(-1) @ p["output/w"] + p["output/b"])


def decoder(p, what, sides):
    """`[Z]` to `[g, g, C]`; `sides` are those after each layer."""
    maps = elu(what @ p["input/w"] + p["input/b"])
    side = int(round(np.sqrt(len(maps) / p["convolution_0/w"].shape[2])))
    image = maps.reshape(side, side, -1)
    for layer, side in enumerate(sides):
        image = image if layer == 0 else elu(image)
        image = shuffle(convolution(image, p[f"convolution_{layer}/w"], p[f"convolution_{layer}/b"]))
        image = image[:side, :side]
    return image
