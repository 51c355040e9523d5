# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door to TensorFlow and Sonnet: `from sqair.graph_mode import snt, tf`.

`tf` is `tensorflow.compat.v1`, in graph mode, and `snt` is Sonnet 1.36, whichever TensorFlow is installed. Under 1.15
nothing is changed. Under 2.x graphs stay those of 1.15 (no eager execution, control flow of version 1, reference
variables), and Sonnet, written for 1.15 and Python 3.7, gets the few names that have moved or gone since.
"""

import collections
import collections.abc
import contextlib
import importlib
import os
import re
import sys
import tempfile
import types

_NATIVE_LOG = re.compile(rb"[IWE]\d{4} |WARNING: All log messages before absl::InitializeLog")


@contextlib.contextmanager
def _quiet_import():
    """TensorFlow 2.21 logs at import whatever `TF_CPP_MIN_LOG_LEVEL` says; where that is 3 these lines are dropped.

    All else that is written to stderr comes after the import, and these lines as well if it fails.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        stderr, dropped = os.dup(2), re.compile(rb"(?!)")
        os.dup2(log.fileno(), 2)
        try:
            yield
            dropped = _NATIVE_LOG
        finally:
            os.dup2(stderr, 2)
            log.seek(0)
            os.write(stderr, b"".join(line for line in log if not dropped.match(line)))
            os.close(stderr)


@contextlib.contextmanager
def _without_keras():
    """TensorFlow 2.16 and later import Keras at once, which takes as long as the rest, unless told of an older one."""
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    try:
        yield
    finally:
        os.environ.pop("TF_USE_LEGACY_KERAS")
        if before is not None:
            os.environ["TF_USE_LEGACY_KERAS"] = before


with _quiet_import(), _without_keras():
    import tensorflow.compat.v1 as tf

TF2 = not tf.__version__.startswith("1.")


@contextlib.contextmanager
def _modules_in_place(modules):
    """While Sonnet is imported these names import these modules, and afterwards what they did before."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _what_sonnet_imports():
    """Name -> module, for all that Sonnet 1.36 imports and TensorFlow 2.x no longer has, or that is not needed here."""
    from tensorflow.python.framework.smart_cond import smart_cond
    from tensorflow.python.util import nest

    contents = {
        "tensorflow.contrib": {},
        "tensorflow.contrib.eager": {},
        "tensorflow.contrib.eager.python": {"tfe": types.SimpleNamespace(defun=tf.function)},
        "tensorflow.contrib.framework": {"nest": nest, "smart_cond": smart_cond},
        "tensorflow.contrib.rnn": {"LSTMBlockCell": object},  # of which it reads the docstring
        # Asked for its version and for this name, and called by modules alone that are of no use here.
        "tensorflow_probability": {
            "__version__": "0.8.0",
            "distributions": types.SimpleNamespace(FULLY_REPARAMETERIZED=None),
        },
        # Written by a protobuf that today's refuses; exporting a module to a MetaGraph alone fills it in.
        "sonnet.protos.module_pb2": {"SonnetModule": None},
    }
    modules = {name: types.ModuleType(name) for name in contents}
    for name, values in contents.items():
        vars(modules[name]).update(values, __path__=[])
        parent, _, child = name.rpartition(".")
        if parent in modules:
            setattr(modules[parent], child, modules[name])
    return modules


def _switch_to_graph_mode():
    """Switches the behaviour of version 2 off, before there is any graph, and what 2.x says about version 1 as well."""
    from tensorflow.python.util import deprecation

    deprecation._PRINT_DEPRECATION_WARNINGS = False  # noqa: SLF001
    tf.disable_v2_behavior()
    # Products of GPUs since 2020 in 10 bits instead of 23: only for who asks.
    tf.config.experimental.enable_tensor_float_32_execution(os.environ.get("SQAIR_TF32") == "1")


def _import_sonnet():
    from tensorflow.python.util import nest

    nest.is_sequence = nest.is_nested
    for name in ("Iterable", "Mapping", "Sequence"):  # Python 3.10 has them in collections.abc alone
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))
    with _modules_in_place(_what_sonnet_imports()):
        try:
            return importlib.import_module("sonnet")
        except ModuleNotFoundError as error:
            if error.name != "sonnet":
                raise
            raise ImportError(
                "Sonnet is missing, which TensorFlow 2 needs without what it asks for itself:"
                " pip install --no-deps dm-sonnet==1.36"
            ) from None


if TF2:
    _switch_to_graph_mode()
    snt = _import_sonnet()
else:
    import sonnet as snt  # noqa: F401


def first_line(error):
    """The first line of what a `tf.errors.OpError` says, without the place in Python that 2.x puts before it."""
    message = re.sub(
        r"\AGraph execution error:.*?\nNode: [^\n]*\n", "", error.message.strip(), flags=re.DOTALL
    )
    return message.split("\n")[0].strip()
