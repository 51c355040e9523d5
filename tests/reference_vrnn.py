# SPDX-License-Identifier: GPL-3.0-or-later
"""Oracle of the VRNN: float64, one particle at a time, filtered by the oracle of FIVO.

`params` is a dict of the model's variables, by their names without the model's.
"""

import numpy as np
from reference_fivo import lineages, normal_log_prob, particle_filter

MIN_SCALE, STD = 1e-2, 0.3


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(params, name, x):
    return x @ params[name + "/w"] + params[name + "/b"]


def perceptron(params, name, x):
    layer = 0
    while f"{name}/hidden_{layer}/w" in params:
        x = elu(linear(params, f"{name}/hidden_{layer}", x))
        layer += 1
    return linear(params, name + "/output", x) if name + "/output/w" in params else x


def padding(size, kernel=3, stride=2):
    """Zeros before the first of `size` pixels, as TensorFlow's SAME."""
    return max((-(-size // stride) - 1) * stride + kernel - size, 0) // 2


def convolve(params, name, x):
    """3 x 3, every second pixel: `[H, W, C]`."""
    w, b = params[name + "/w"], params[name + "/b"]
    height, width = x.shape[:2]
    out = np.tile(b, (-(-height // 2), -(-width // 2), 1))
    for i, j, di, dj in np.ndindex(*out.shape[:2], 3, 3):
        y, z = 2 * i + di - padding(height), 2 * j + dj - padding(width)
        if 0 <= y < height and 0 <= z < width:
            out[i, j] += x[y, z] @ w[di, dj]
    return out


def convolve_transposed(params, name, x, size):
    """What `convolve` does to gradients: every pixel is written to 3 x 3 of an image of `size`."""
    w, b = params[name + "/w"], params[name + "/b"]
    out = np.tile(b, (*size, 1))
    for i, j, di, dj in np.ndindex(*x.shape[:2], 3, 3):
        y, z = 2 * i + di - padding(size[0]), 2 * j + dj - padding(size[1])
        if 0 <= y < size[0] and 0 <= z < size[1]:
            out[y, z] += w[di, dj] @ x[i, j]
    return out


def encode(params, image):
    if "image_encoder/hidden_0/w" in params:
        return perceptron(params, "image_encoder", image.ravel())
    layer = 0
    while f"image_encoder/convolution_{layer}/w" in params:
        image = elu(convolve(params, f"image_encoder/convolution_{layer}", image))
        layer += 1
    return elu(linear(params, "image_encoder/output", image.ravel()))


def decode(params, features, shape):
    if "image_decoder/mlp/hidden_0/w" in params:
        return perceptron(params, "image_decoder/mlp", features).reshape(shape)
    sizes = [shape[:2]]
    for _ in range(3):
        sizes.append(tuple(-(-n // 2) for n in sizes[-1]))
    x = elu(linear(params, "image_decoder/joined", features))
    x = elu(linear(params, "image_decoder/spread", x)).reshape(*sizes[3], -1)
    for layer in (2, 1, 0):
        x = convolve_transposed(params, f"image_decoder/conv_{layer}", x, sizes[layer])
        x = elu(x) if layer else x
    return x


def lstm(params, inputs, state):
    hidden, cell = state
    gates = np.concatenate([inputs, hidden]) @ params["cell/lstm/w_gates"] + params["cell/lstm/b_gates"]
    i, j, f, o = np.split(gates, 4)
    cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(j)
    return sigmoid(o) * np.tanh(cell), cell


def gaussian(statistics):
    loc, raw = np.split(statistics, 2)
    return loc, np.logaddexp(0, raw) + MIN_SCALE


def frame(params, image, of_image, of_image_tm1, noise, state):
    """One particle in one frame, of which and of the last one the features are given: its next state, what it holds."""
    hidden, cell, latent_tm1 = state
    hidden, cell = lstm(params, np.concatenate([of_image_tm1, latent_tm1]), (hidden, cell))
    prior_loc, prior_scale = gaussian(perceptron(params, "cell/prior", hidden))
    loc, scale = gaussian(perceptron(params, "cell/posterior", np.concatenate([hidden, of_image])))
    latent = loc + scale * noise
    of_latent = perceptron(params, "cell/latent_encoder", latent)
    canvas = params["cell/mean_image"] + decode(params, np.concatenate([of_latent, hidden]), image.shape)
    found = dict(
        latent=latent,
        canvas=canvas,
        log_likelihood=normal_log_prob(image, canvas, STD).sum(),
        log_q=normal_log_prob(latent, loc, scale).sum(),
        log_p=normal_log_prob(latent, prior_loc, prior_scale).sum(),
    )
    return (hidden, cell, of_latent), found


def run(params, images, noise, uniforms, below=0.5, parents=None):
    """One sequence.

    Args:
        params: dict of name -> array.
        images: `[T, H, W, C]`.
        noise: `[T, K, Z]`.
        uniforms: `[T, K]`.
        below: as of `particle_filter`.
        parents: likewise.

    Returns:
        Dict of what a frame holds, `[T, K, ...]`, by history; log_evidence `[T]`, parents `[T, K]`, resampled `[T]`,
        weights `[K]`.
    """
    size = params["cell/lstm/b_gates"].size // 4
    held = [[None] * noise.shape[1] for _ in images]
    features = [np.zeros(size)] + [encode(params, image) for image in images]

    def step(t, k, state):
        state, held[t][k] = frame(params, images[t], features[t + 1], features[t], noise[t, k], state)
        return state, held[t][k]["log_likelihood"] + held[t][k]["log_p"] - held[t][k]["log_q"]

    filtered = particle_filter(step, [np.zeros(size)] * 3, len(images), uniforms, below, parents)
    lineage = lineages(filtered["parents"])
    found = {
        name: np.array([[held[t][k][name] for k in row] for t, row in enumerate(lineage)])
        for name in held[0][0]
    }
    found.update((name, filtered[name]) for name in ("log_evidence", "parents", "resampled"))
    last = np.exp(filtered["log_w"][-1] - filtered["log_w"][-1].max())
    return dict(found, weights=last / last.sum())
