# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequential Attend, Infer, Repeat: a generative model of moving objects (arXiv:1806.01794)."""

import importlib
import os

__version__ = "0.1.0"

# TensorFlow's own pool of memory: the C library's takes up to a tenth longer for an update.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")

_PUBLIC = {
    "AIR": "baselines.air",
    "Generator": "evaluation.generator",
    "SQAIR": "model.sqair",
    "SQAIRCell": "model.sqair",
    "SequenceBatch": "data.pipeline",
    "SequenceDataset": "data.pipeline",
    "SequenceOutputs": "model.structures",
    "Tracker": "evaluation.tracker",
    "UserError": "errors",
    "VRNN": "baselines.vrnn",
    "conv_sqair": "model.conv_networks",
    "conv_vrnn": "baselines.vrnn",
    "loss_and_report": "training.objective",
    "mlp_air": "baselines.air",
    "mlp_sqair": "model.sqair",
    "mlp_vrnn": "baselines.vrnn",
    "open_run": "evaluation.opening",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name):
    """Imports a public name when it is first used: `import sqair` alone does not wait for TensorFlow."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
