# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequential Attend, Infer, Repeat: a generative model of moving objects (arXiv:1806.01794)."""

import importlib

from sqair import _memory, _quiet  # before anything that imports TensorFlow

__version__ = "0.1.0"

_memory.keep_freed_memory()

_PUBLIC = {
    "SQAIR": "model",
    "SQAIRCell": "model",
    "SequenceBatch": "structures",
    "SequenceDataset": "data.pipeline",
    "SequenceOutputs": "structures",
    "UserError": "errors",
    "evaluate": "objective",
    "open_run": "evaluation",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name):
    """Imports a public name when it is first used: `import sqair` alone does not wait for TensorFlow."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
