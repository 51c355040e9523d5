# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers with named inputs, some of which are multiplied early: for all slots at once, and for several layers at once.

A layer `y = f(a A + b B + c C + bias)` takes `a`, `b` and `c` by name. What is known before the slots have their turn,
say `a` and `b`, is multiplied with every layer that takes it by `EarlyProducts`. The layer is still called with all of
its inputs, `layer(a=early.a, b=early.b, c=c)`, and multiplies `c` alone.
"""

from typing import Any, NamedTuple

from sqair.engine.loop_gradients import affine
from sqair.engine.tensors import pack
from sqair.graph_mode import tf


class EarlyInput(NamedTuple):
    """One input of layers that were multiplied already."""

    name: str
    value: Any  # [m, n]
    early: Any  # the `Early` that it belongs to


class Early(NamedTuple):
    """Inputs that were multiplied with all layers that take them; `early.name` is the input of this name."""

    values: Any  # dict of input's name -> [m, n]
    products: Any  # dict of layer's name -> [m, k], what its early inputs and its bias add up to

    def __getattr__(self, name):
        if name.startswith("_") or name not in self.values:
            raise AttributeError(f"no early input {name}")
        return EarlyInput(name, self.values[name], self)


class NamedWeights:
    """A weight matrix, whose rows go by the names of the inputs that they multiply."""

    def __init__(self, layer, weights, widths, bias):
        """Args: layer: its name; weights: `[n, k]`; widths: dict of name -> int, n in all, in order; bias: `[k]`."""
        self.layer, self.widths, self.bias = layer, dict(widths), bias
        self._weights, self._chosen = weights, {}

    def rows(self, names):
        """The rows `[m, k]` of some inputs, in the order of the weights; the same tensor whenever it is asked for."""
        if len(names) == len(self.widths):
            return self._weights
        if names not in self._chosen:
            with tf.control_dependencies(None):  # outside any loop: once per step, not once per iteration
                rows = dict(zip(self.widths, tf.split(self._weights, list(self.widths.values()))))
                chosen = [rows[name] for name in names]
                self._chosen[names] = chosen[0] if len(chosen) == 1 else tf.concat(chosen, 0)
        return self._chosen[names]

    def __call__(self, inputs, activation=None):
        """`[m, k]`: the layer's output.

        Args:
            inputs: dict of name -> `[m, n]` or `EarlyInput`, all that the layer takes.
            activation: None or `tf.nn.elu`.

        Raises:
            ValueError: if an input is missing or unknown, or early inputs are not those that were multiplied.
        """
        early = {name: x.early for name, x in inputs.items() if isinstance(x, EarlyInput)}
        late = tuple(name for name in self.widths if name in inputs and name not in early)
        if set(inputs) != set(self.widths):
            raise ValueError(f"{self.layer} takes {', '.join(self.widths)}, not {', '.join(inputs)}.")
        if not early:
            return affine(pack([inputs[name] for name in late]), self.rows(late), self.bias, activation)
        known = next(iter(early.values()))
        if self.layer not in known.products or set(early) != set(self.widths) & set(known.values):
            raise ValueError(f"{self.layer} was not multiplied with just {', '.join(early)} early.")
        outputs = known.products[self.layer]
        if late:
            outputs += affine(pack([inputs[name] for name in late]), self.rows(late))
        return activation(outputs) if activation else outputs


class EarlyProducts:
    """Multiplies inputs with all of some layers that take them; those with the same inputs in one product."""

    def __init__(self, *layers):
        """Args: layers: modules whose `named_weights` are to be multiplied early."""
        self._weights = [weights for layer in layers for weights in layer.named_weights]
        self._joined = {}

    def __call__(self, early=None, **inputs):
        """Multiplies inputs.

        Args:
            early: `Early` to add to, if there is one.
            inputs: `[m, n]` each, by the names that layers have for them.

        Returns:
            `Early` of these inputs and those before.
        """
        values, products = (dict(early.values), dict(early.products)) if early else ({}, {})
        groups = {}
        for weights in self._weights:
            names = tuple(name for name in weights.widths if name in inputs)
            if names:
                groups.setdefault(names, []).append(weights)
        for names, group in groups.items():
            together = affine(pack([inputs[name] for name in names]), *self._join(names, group, products))
            for weights, product in zip(group, _split(together, group)):
                before = products.get(weights.layer)
                products[weights.layer] = product if before is None else before + product
        return Early(dict(values, **inputs), products)

    def _join(self, names, group, products):
        """The weights `[n, k]` of a group side by side, and its biases where no product has them yet."""
        with_bias = tuple(weights.layer not in products and weights.bias is not None for weights in group)
        key = names, with_bias
        if key not in self._joined:
            with tf.control_dependencies(None):
                bias = None
                if any(with_bias):
                    biases = [w.bias if own else tf.zeros([_width(w)]) for w, own in zip(group, with_bias)]
                    bias = biases[0] if len(biases) == 1 else tf.concat(biases, 0)
                rows = [weights.rows(tuple(n for n in weights.widths if n in names)) for weights in group]
                self._joined[key] = rows[0] if len(rows) == 1 else tf.concat(rows, 1), bias
        return self._joined[key]


def _width(weights):
    return weights.rows(tuple(weights.widths)).shape.as_list()[1]


def _split(together, group):
    return [together] if len(group) == 1 else tf.split(together, [_width(w) for w in group], axis=-1)
