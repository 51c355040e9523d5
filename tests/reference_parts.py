# SPDX-License-Identifier: GPL-3.0-or-later
"""Oracle, part 1: layers, densities and the spatial transformer, float64 NumPy, differentiable."""

import autograd.numpy as np
from autograd.extend import defvjp, primitive
from autograd.tracer import getval

MIN_SCALE = 1e-2  # what softplus+ adds
ABSENT_LOGIT = 88.0  # sigmoid(-88) underflows to 0
MIN_GLIMPSE_SCALE = 1e-4


def stop(x):
    """The plain value of `x`: a constant for differentiation."""
    while True:
        value = getval(x)
        if value is x:
            return value
        x = value


@primitive
def straight_through_clip(x, low, high):
    """Clips in the forward pass; the gradient is the identity's."""
    return np.clip(x, low, high)


defvjp(straight_through_clip, lambda ans, x, low, high: lambda g: g, None, None)


def sigmoid(x):
    return np.exp(-softplus(-x))  # exact in relative terms, also where it is tiny


def softplus(x):
    return np.logaddexp(0.0, x)


def softplus_plus(x, min_scale=MIN_SCALE):
    return softplus(x) + min_scale


def elu(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0.0)) - 1.0)


def cat(*xs):
    return np.concatenate(xs, -1)


def linear(p, name, x):
    return np.dot(x, p[name + "/w"]) + p[name + "/b"]


def mlp(p, name, x, linear_output):
    """A Sonnet MLP: layers linear, linear_1, ...; ELU after each but (if `linear_output`) the last."""
    layers = ["/mlp/linear"]
    while name + "/mlp/linear_%d/w" % len(layers) in p:
        layers.append("/mlp/linear_%d" % len(layers))
    for i, layer in enumerate(layers):
        x = linear(p, name + layer, x)
        if i < len(layers) - 1 or not linear_output:
            x = elu(x)
    return x


def vanilla_rnn(p, name, x, state):
    return np.tanh(linear(p, name + "/in_to_hidden", x) + linear(p, name + "/hidden_to_hidden", state))


def gru(p, name, x, h):
    def gate(g, state):
        return np.dot(x, p[name + "/w" + g]) + np.dot(state, p[name + "/u" + g]) + p[name + "/b" + g]

    z = sigmoid(gate("z", h))
    r = sigmoid(gate("r", h))
    c = np.tanh(gate("h", r * h))
    return (1.0 - z) * h + z * c


def normal_log_prob(x, loc, scale):
    """Log-density per element."""
    return -0.5 * ((x - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2.0 * np.pi)


def diag_normal_log_prob(x, loc, scale):
    """Log-density of a vector `[..., D]` with independent entries: `[...]`."""
    return np.sum(normal_log_prob(x, loc, scale), -1)


def bernoulli_log_prob(x, logit):
    """log sigmoid(logit) where x is 1, log(1 - sigmoid(logit)) where it is 0."""
    return -x * softplus(-logit) - (1.0 - x) * softplus(logit)


def fill_triangular(v):
    """10 numbers to a lower-triangular 4x4 matrix in TensorFlow's order.

    For example [1, 2, 3, 4, 5, 6] is [[4, 0, 0], [6, 5, 0], [3, 2, 1]].
    """
    n = int((np.sqrt(8 * len(v) + 1) - 1) / 2)
    return np.tril(np.reshape(np.concatenate([v[n:], v[::-1]]), (n, n)))


def affine_rows(scale, matrix):
    """L = diag(scale) + diag(scale) M, as a nested list of `[R]` arrays, row by row."""
    n = scale.shape[-1]
    return [[scale[:, i] * (float(i == j) + matrix[i, j]) for j in range(n)] for i in range(n)]


def affine_sample(loc, rows, eps):
    n = loc.shape[-1]
    return np.stack([loc[:, i] + sum(rows[i][j] * eps[:, j] for j in range(i + 1)) for i in range(n)], -1)


def affine_log_prob(x, loc, rows):
    """Solves L z = x - loc by forward substitution: log N(z; 0, 1) - log |det L|, `[R]`."""
    z = []
    total = 0.0
    for i in range(loc.shape[-1]):
        rest = x[:, i] - loc[:, i] - sum(rows[i][j] * z[j] for j in range(i))
        z.append(rest / rows[i][i])
        total = total - 0.5 * z[i] ** 2 - 0.5 * np.log(2.0 * np.pi) - np.log(np.abs(rows[i][i]))
    return total


def num_steps_probs(prob):
    """Probabilities `[R, N + 1]` of 0..N successes before the first failure; `prob` `[R, N]` is per slot."""
    n_steps = prob.shape[-1]
    columns = []
    for k in range(n_steps + 1):
        q = np.ones(prob.shape[0])
        for n in range(k):
            q = q * prob[:, n]
        if k < n_steps:
            q = q * (1.0 - prob[:, k])
        columns.append(q)
    q = np.stack(columns, -1)
    return q / np.sum(q, -1, keepdims=True)


def coordinates(where):
    """Logits `[R, 4]` (sx, sy, tx, ty) to four arrays `[R]`: scales in [1e-4, 1], shifts in [-1, 1]."""
    scale = straight_through_clip(sigmoid(where[:, :2]), MIN_GLIMPSE_SCALE, 1.0)
    shift = np.tanh(where[:, 2:])
    return scale[:, 0], scale[:, 1], shift[:, 0], shift[:, 1]


def bilinear_weights(position, length):
    """Weights `[R, n, length]` of source pixels at positions `[R, n]` in [-1, 1] (corner-aligned)."""
    pixel = (position + 1.0) * (length - 1) / 2.0
    return np.maximum(0.0, 1.0 - np.abs(pixel[:, :, None] - np.arange(length)))


def read_glimpse(image, where, size):
    """`[R, H, W]` image and `[R, 4]` logits to `[R, size, size]`."""
    sx, sy, tx, ty = coordinates(where)
    grid = np.linspace(-1.0, 1.0, size)
    a_y = bilinear_weights(sy[:, None] * grid + ty[:, None], image.shape[1])
    a_x = bilinear_weights(sx[:, None] * grid + tx[:, None], image.shape[2])
    return np.einsum("rih,rhw,rjw->rij", a_y, image, a_x)


def write_glimpse(glimpse, where, height, width):
    """`[R, g, g]` glimpse to a `[R, H, W]` canvas: the inverse warp, zero outside the glimpse."""
    size = glimpse.shape[1]
    sx, sy, tx, ty = coordinates(where)
    v = (np.linspace(-1.0, 1.0, height) - ty[:, None]) / sy[:, None]
    u = (np.linspace(-1.0, 1.0, width) - tx[:, None]) / sx[:, None]
    a_y = bilinear_weights(v, size)
    a_x = bilinear_weights(u, size)
    return np.einsum("rhi,rij,rwj->rhw", a_y, glimpse, a_x)


def boxes(where, height, width):
    """Pixel boxes `[R, 4]` (y, x, h, w) of `where` logits."""
    sx, sy, tx, ty = coordinates(where)
    h, w = (height + 1) * sy, (width + 1) * sx
    y = (height - 1) * (ty - sy + 1) / 2
    x = (width - 1) * (tx - sx + 1) / 2
    return np.stack([y, x, h, w], -1)
