# SPDX-License-Identifier: GPL-3.0-or-later
"""Convolutional encoders and decoder: what makes the paper's CONV-SQAIR of `SQAIR` (section 4.1, appendix D).

Not in the paper: sizes. Here all kernels are 3x3; encoders halve the sides until the longer one is at most 4, with 16,
32, 64, 64, ... maps; the decoder doubles them (sub-pixel convolutions, Shi et al. 2016, arXiv:1609.05158).

The gradients of kernels are made inside the loop over time, unlike those of `sqair.engine.loop_gradients`: kernels are
small, so that adding them up costs nothing, and the products that they come from are large.
"""

from sqair.engine.layers import Linear
from sqair.engine.tensors import flatten
from sqair.graph_mode import snt, tf
from sqair.model.sqair import SQAIR, UNITS

KERNEL = 3
MAPS = (16, 32, 64)  # of the first layers of an encoder; later ones have as many as the last of these
SMALLEST = 4  # an encoder leaves a side of this many pixels at most
DECODER_SMALLEST = 5  # a decoder begins with a side of this many pixels at most
DECODER_MAPS = 32  # of its first layer; half as many later


class Convolution(snt.AbstractModule):
    """A 3x3 convolution with zeros around the images, initialised as `snt.Conv2D`."""

    def __init__(self, channels, maps, stride=1, name="convolution"):
        """Args: channels, maps: ints, of the input and of the output; stride: int."""
        super().__init__(name=name)
        self._stride = stride
        fan_in = KERNEL * KERNEL * channels
        with self._enter_variable_scope():
            initial = tf.truncated_normal_initializer(stddev=fan_in**-0.5)
            self._weights = tf.get_variable("w", [KERNEL, KERNEL, channels, maps], initializer=initial)
            self._bias = tf.get_variable("b", [maps], initializer=tf.zeros_initializer())

    def _build(self, images):
        """`[m, h, w, channels]` to `[m, ceil(h / stride), ceil(w / stride), maps]`."""
        strides = [1, self._stride, self._stride, 1]
        outputs = tf.nn.conv2d(images, self._weights, strides, padding="SAME")
        # Of no image at all, TensorFlow 2.21 returns something of the input's shape.
        outputs = tf.reshape(outputs, [-1] + outputs.shape.as_list()[1:])
        return tf.nn.bias_add(outputs, self._bias)


class ConvEncoder(snt.AbstractModule):
    """Images to features: convolutions, each of which halves the sides, then a fully connected layer; all with ELU."""

    def __init__(self, image_shape, hidden_size, name="encoder"):
        """Args: image_shape: ints (H, W, C) of images or glimpses; hidden_size: int D."""
        super().__init__(name=name)
        height, width, channels = self._shape = tuple(image_shape)
        self._layers = []
        with self._enter_variable_scope():
            while not self._layers or max(height, width) > SMALLEST:
                maps = MAPS[min(len(self._layers), len(MAPS) - 1)]
                self._layers.append(Convolution(channels, maps, 2, f"convolution_{len(self._layers)}"))
                height, width, channels = half(height), half(width), maps
            self._output = Linear(
                hidden_size, dict(maps=height * width * channels), activation=tf.nn.elu, name="output"
            )

    def _build(self, images):
        """`[m, H, W, C]` to `[m, D]`."""
        outputs = tf.reshape(images, (-1,) + self._shape)
        for layer in self._layers:
            outputs = tf.nn.elu(layer(outputs))
        return self._output(maps=flatten(outputs))


class SubPixelDecoder(snt.AbstractModule):
    """Appearances to glimpses: a fully connected layer to small maps, then convolutions that double their sides.

    A convolution has four maps for each of the next image, one for each quarter of its pixels. ELU but at the output.

    Differs from Shi et al. in the activations, and in that maps are cut where twice the sides is too much.
    """

    def __init__(self, n_what, glimpse_size, channels, name="glimpse_decoder"):
        """Args: n_what, glimpse_size, channels: ints Z, g, C."""
        super().__init__(name=name)
        sides = [glimpse_size]
        while sides[0] > DECODER_SMALLEST or len(sides) == 1:
            sides.insert(0, half(sides[0]))
        self._first, self._sides = [sides[0], sides[0], DECODER_MAPS], sides[1:]
        maps = [DECODER_MAPS] + [DECODER_MAPS // 2] * (len(self._sides) - 1) + [channels]
        with self._enter_variable_scope():
            size = sides[0] ** 2 * DECODER_MAPS
            self._input = Linear(size, dict(what=n_what), activation=tf.nn.elu, name="input")
            self._layers = [
                Convolution(before, 4 * after, name=f"convolution_{i}")
                for i, (before, after) in enumerate(zip(maps, maps[1:]))
            ]

    def _build(self, what):
        """`[m, Z]` to `[m, g, g, C]`."""
        outputs = tf.reshape(self._input(what=what), [-1] + self._first)
        for i, (layer, side) in enumerate(zip(self._layers, self._sides)):
            outputs = tf.nn.depth_to_space(layer(outputs if i == 0 else tf.nn.elu(outputs)), 2)
            if outputs.shape[1].value > side:
                outputs = outputs[:, :side, :side]
        return outputs


def half(side):
    """Pixels of a side that is halved, rounded up."""
    return (side + 1) // 2


def conv_networks(image_shape, hidden_size, n_what, glimpse_size):
    """The convolutional image encoder, glimpse encoder and glimpse decoder; ints (H, W, C), D, Z, g."""
    channels = image_shape[2]
    return (
        ConvEncoder(image_shape, hidden_size, name="image_encoder"),
        ConvEncoder((glimpse_size, glimpse_size, channels), hidden_size, name="glimpse_encoder"),
        SubPixelDecoder(n_what, glimpse_size, channels),
    )


def conv_sqair(mean_image, n_units=8, n_what=50, glimpse_size=20, **arguments):
    """`SQAIR` with convolutional encoders and decoder, the paper's CONV-SQAIR; arguments as of `SQAIR`."""
    networks = conv_networks(mean_image.shape, UNITS * n_units, n_what, glimpse_size)
    sizes = dict(n_units=n_units, n_what=n_what, glimpse_size=glimpse_size)
    return SQAIR(mean_image, *networks, **sizes, **arguments)
