# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that read and draw whole images: perceptrons, convolutions and transposed ones.

Not in the paper: the sizes of the convolutions.
"""

from sqair.engine.layers import MLP, Linear
from sqair.engine.tensors import flatten
from sqair.graph_mode import snt, tf

CHANNELS = 16, 32, 64  # feature maps, from the image inwards
KERNEL, STRIDE = 3, 2


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


class ConvImageEncoder(snt.AbstractModule):
    """Images `[n, H, W, C]` to features `[n, D]`: convolutions that halve the image, then a linear layer; ELU."""

    def __init__(self, hidden_size, name="image_encoder"):
        """Args: hidden_size: int D."""
        super().__init__(name=name)
        with self._enter_variable_scope():
            self._convolutions = [
                snt.Conv2D(channels, KERNEL, STRIDE, name=f"conv_{i}") for i, channels in enumerate(CHANNELS)
            ]
            self._features = Linear(hidden_size, activation=tf.nn.elu, name="features")

    def _build(self, images):
        for convolution in self._convolutions:
            images = tf.nn.elu(convolution(images))
        return self._features(flatten(images))


class ConvImageDecoder(snt.AbstractModule):
    """`latent` and `output`, `[m, D]` each, to an image: linear layers, then transposed convolutions; ELU."""

    def __init__(self, hidden_size, image_shape, name="image_decoder"):
        """Args: hidden_size: int D; image_shape: ints (H, W, C)."""
        super().__init__(name=name)
        *sizes, n_channels = image_shape
        shapes = [tuple(sizes)]  # from the image inwards, each half as large, rounded up
        for _ in CHANNELS:
            shapes.append(tuple(-(-pixels // STRIDE) for pixels in shapes[-1]))
        self._inner_shape = [*shapes[-1], CHANNELS[-1]]
        channels = (n_channels, *CHANNELS)
        inputs = dict(latent=hidden_size, output=hidden_size)
        with self._enter_variable_scope():
            self._joined = Linear(hidden_size, inputs, activation=tf.nn.elu, name="joined")
            inner = self._inner_shape[0] * self._inner_shape[1] * self._inner_shape[2]
            self._spread = Linear(inner, activation=tf.nn.elu, name="spread")
            self._convolutions = [
                snt.Conv2DTranspose(channels[i], shapes[i], KERNEL, STRIDE, name=f"conv_{i}")
                for i in reversed(range(len(CHANNELS)))
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
