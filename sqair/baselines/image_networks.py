# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that draw whole images from two inputs: perceptrons and transposed convolutions.

Not in the paper: the sizes of the convolutions.
"""

from sqair.engine.layers import MLP, Linear
from sqair.graph_mode import snt, tf
from sqair.model.conv_networks import KERNEL, MAPS, half


class MLPImageDecoder(snt.AbstractModule):
    """`latent` and `output`, `[m, D]` each, to an image, fully connected."""

    def __init__(self, hidden_size, n_layers, image_shape, name="image_decoder"):
        """Args: hidden_size: int D; n_layers: int, hidden ones; image_shape: ints (H, W, C)."""
        super().__init__(name=name)
        self._image_shape = list(image_shape)
        pixels = image_shape[0] * image_shape[1] * image_shape[2]
        inputs = dict(latent=hidden_size, output=hidden_size)
        with self._enter_variable_scope():
            self._mlp = MLP([hidden_size] * n_layers, pixels, inputs=inputs)

    @property
    def named_weights(self):
        """List of `NamedWeights`, of the first layer."""
        return self._mlp.named_weights

    def _build(self, **inputs):
        """`[m, D]` or `EarlyInput` each to `[m, H, W, C]`."""
        return tf.reshape(self._mlp(**inputs), [-1] + self._image_shape)


class ConvImageDecoder(snt.AbstractModule):
    """`latent` and `output`, `[m, D]` each, to an image: linear layers, then transposed convolutions; ELU."""

    def __init__(self, hidden_size, image_shape, name="image_decoder"):
        """Args: hidden_size: int D; image_shape: ints (H, W, C)."""
        super().__init__(name=name)
        *sizes, n_channels = image_shape
        shapes = [tuple(sizes)]  # from the image inwards, as of an encoder, each half as large, rounded up
        for _ in MAPS:
            shapes.append(tuple(map(half, shapes[-1])))
        self._inner_shape = [*shapes[-1], MAPS[-1]]
        maps = (n_channels, *MAPS)
        inputs = dict(latent=hidden_size, output=hidden_size)
        with self._enter_variable_scope():
            self._joined = Linear(hidden_size, inputs, activation=tf.nn.elu, name="joined")
            inner = self._inner_shape[0] * self._inner_shape[1] * self._inner_shape[2]
            self._spread = Linear(inner, activation=tf.nn.elu, name="spread")
            self._convolutions = [
                snt.Conv2DTranspose(maps[i], shapes[i], KERNEL, 2, name=f"conv_{i}")
                for i in reversed(range(len(MAPS)))
            ]

    @property
    def named_weights(self):
        """List of `NamedWeights`, of the first layer."""
        return self._joined.named_weights

    def _build(self, **inputs):
        """`[m, D]` or `EarlyInput` each to `[m, H, W, C]`."""
        images = tf.reshape(self._spread(self._joined(**inputs)), [-1] + self._inner_shape)
        *hidden, last = self._convolutions
        for convolution in hidden:
            images = tf.nn.elu(convolution(images))
        return last(images)
