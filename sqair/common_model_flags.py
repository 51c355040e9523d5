# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags that all model configs share, each with what it does to training.

The authors call `output_std`, `disc_step_bias` and `prop_step_bias` the most important, then `transform_var_bias`,
`output_scale`, `scale_prior` and `prop_prior_step_bias`.
"""

from absl import flags

from sqair.cli import group
from sqair.engine import devices
from sqair.errors import UserError
from sqair.model.priors import parse_scale_prior

with group("Model: what matters most"):
    flags.DEFINE_float(
        "output_std",
        0.3,
        "Standard deviation of the pixel noise. Smaller: reconstructions count more against the priors, so that more "
        "objects are used; too small, and everything in the image becomes objects. Larger: blurred and fewer objects.",
        lower_bound=1e-3,
    )
    flags.DEFINE_float(
        "disc_step_bias",
        1.0,
        "Initial logit of discovering an object in a slot. Higher: more objects are tried from the start, and "
        "learning takes off sooner (5 with a learning rate of 1e-4 is quick); very low: nothing is ever found.",
    )
    flags.DEFINE_float(
        "prop_step_bias",
        5.0,
        "Initial logit of propagating an object into the next frame. High: objects are kept, and tracking is learned; "
        "low: they are dropped and found anew in every frame.",
    )

with group("Model: what matters next"):
    flags.DEFINE_float(
        "transform_var_bias",
        -3.0,
        "Initial bias of the raw location scales. Lower: locations start out less noisy, and learn slower.",
    )
    flags.DEFINE_float(
        "output_scale",
        0.25,
        "Initial factor on decoded glimpses. Smaller: the canvas starts near the background alone.",
    )
    flags.DEFINE_string(
        "scale_prior",
        "-2",
        "Prior mean of the scale logits, one number or one per axis (x,y): sigmoid(-2) = 0.12 of the half-width. "
        "Larger objects need a larger value.",
    )
    flags.DEFINE_float(
        "prop_prior_step_bias",
        10.0,
        "Added to the prior's logit of propagating. High: losing an object costs many nats.",
    )

with group("Model: sizes"):
    flags.DEFINE_integer(
        "n_steps_per_image", 3, "Object slots per frame: at most this many objects.", lower_bound=1
    )
    flags.DEFINE_integer("n_what", 50, "Size of an object's appearance code.", lower_bound=1)
    flags.DEFINE_integer("n_units", 8, "Hidden units, in multiples of 32.", lower_bound=1)
    flags.DEFINE_integer("glimpse_size", 20, "Side of the square glimpses, in pixels.", lower_bound=2)

with group("Model: variants"):
    flags.DEFINE_enum(
        "prop_prior_type", "rnn", ["rnn", "rw", "guided"], "Propagation prior: learned, random walk, or both."
    )
    flags.DEFINE_enum(
        "disc_prior_type", "cat", ["cat", "geom"], "Prior on how many objects appear: learned or geometric."
    )
    flags.DEFINE_float(
        "step_success_prob",
        0.75,
        "Success probability of the geometric prior.",
        lower_bound=1e-6,
        upper_bound=1 - 1e-6,
    )
    flags.DEFINE_boolean(
        "masked_glimpse", True, "Mask glimpses of propagated objects by what the past expects."
    )
    flags.DEFINE_boolean(
        "rec_where_prior", True, "Condition a new object's prior location on the one before it."
    )
    flags.DEFINE_enum("transition", "VanillaRNN", ["GRU", "VanillaRNN"], "Recurrent core over slots.")
    flags.DEFINE_enum(
        "time_transition", "GRU", ["GRU", "VanillaRNN"], "Recurrent core of an object over time."
    )
    flags.DEFINE_enum(
        "prior_transition", "GRU", ["GRU", "VanillaRNN"], "Recurrent core of the propagation prior."
    )
    flags.DEFINE_boolean(
        "sample_from_prior",
        False,
        "Kept for scripts written for the original, where it has no effect; only False is accepted. "
        "scripts/generate.py samples from the prior of a trained model.",
    )

with group("Model: computation"):
    flags.DEFINE_boolean(
        "compact",
        None,
        "Compute only the objects that exist (fast on CPUs), or, with --nocompact, all slots with static shapes, as "
        "accelerators want them. The numbers are the same. By default what suits the machine: the latter where "
        "TensorFlow sees a GPU.",
    )


# Flags of what a model without propagation does not have.
OF_PROPAGATION = (
    "prop_step_bias",
    "prop_prior_step_bias",
    "prop_prior_type",
    "masked_glimpse",
    "time_transition",
    "prior_transition",
)


def arguments_without_propagation(values):
    """As `model_arguments`, of a model that propagates nothing.

    Raises:
        UserError: if a value is refused, or a flag that would have no effect is not left as it is.
    """
    for name in OF_PROPAGATION:
        given, default = getattr(values, name), flags.FLAGS[name].default
        if given != default:
            raise UserError(
                f"`{name}={given}` is refused: this model propagates nothing, so that it would have no effect; leave"
                f" it {default}."
            )
    return {name: value for name, value in model_arguments(values).items() if name not in OF_PROPAGATION}


def model_arguments(values):
    """The arguments of `sqair.model.sqair.SQAIR` that these flags set.

    Args:
        values: parsed flags, or anything with their names as attributes.

    Raises:
        UserError: if a value is refused.
    """
    if values.sample_from_prior:
        raise UserError(
            "`sample_from_prior=True` is not supported: training needs posterior samples; leave it False, and sample"
            " from the prior of the trained model by scripts/generate.py."
        )
    names = (
        "output_std disc_step_bias prop_step_bias transform_var_bias output_scale prop_prior_step_bias "
        "n_steps_per_image n_what n_units glimpse_size prop_prior_type disc_prior_type step_success_prob "
        "masked_glimpse rec_where_prior transition time_transition prior_transition compact debug"
    )
    arguments = {name: getattr(values, name) for name in names.split()}
    if arguments["compact"] is None:
        arguments["compact"] = not devices.has_gpu()
    try:
        scale_prior = parse_scale_prior(values.scale_prior)
    except ValueError:
        raise UserError(
            f"`scale_prior={values.scale_prior}` must be one number or one per axis, such as -2 or -2,-1."
        ) from None
    return dict(arguments, scale_prior=scale_prior)
