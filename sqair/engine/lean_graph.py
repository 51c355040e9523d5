# SPDX-License-Identifier: GPL-3.0-or-later
"""A graph that holds every small constant once."""

import functools

from sqair.graph_mode import tf

MAX_BYTES = 256


class LeanGraph(tf.Graph):
    """A `tf.Graph` in which equal small constants of one loop (or of none) are one node.

    About a third of a training graph would otherwise be constants: axes, sizes, shapes, zeros. Fewer nodes make
    the graph quicker to build, to prune and to start. The numbers are the same. What a variable starts from stays
    a node of its own, so that it can be fed for that variable alone.
    """

    def __init__(self):
        super().__init__()
        self._constants = {}

    def _create_op_internal(
        self, op_type, inputs, dtypes=None, input_types=None, name=None, attrs=None, *rest, **more
    ):
        """Makes an operation, or returns the constant that there is; `create_op` calls it, and so does all of 2.x."""
        create = functools.partial(
            super()._create_op_internal, op_type, inputs, dtypes, input_types, name, attrs, *rest, **more
        )
        value = op_type == "Const" and (attrs or {}).get("value")
        shared = value and value.ByteSize() <= MAX_BYTES
        if not shared or self._starts_a_variable(name or op_type):
            return create()
        after = tuple(self._control_dependencies_for_inputs(()))
        key = value.SerializeToString(), self._get_control_flow_context(), after
        if key not in self._constants:
            self._constants[key] = create()
        return self._constants[key]

    def _starts_a_variable(self, name):
        """Whether a constant is an initial value, not only part of one: `variable/Initializer/name`."""
        absolute = name[:-1] if name.endswith("/") else f"{self.get_name_scope()}/{name}"
        return absolute.rpartition("/")[0].endswith("/Initializer")
