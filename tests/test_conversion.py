# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints of the release become runs that give the stored pass, and become what they were, bit for bit."""

import json
import os
import shutil

import numpy as np
import pytest
import reference_cases
from reference_names import variable_shapes
from script_run import run_script
from stub_archives import content_of

from sqair.data import mnist, moving_mnist
from sqair.errors import UserError
from sqair.evaluation import opening
from sqair.training import checkpoints
from sqair.training.settings import Settings
from sqair.verification import comparison, conversion
from sqair.verification.reference_names import reference_to_ours
from sqair.verification.stored_case import load_case

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GOLDEN = os.path.join(ROOT, "tests", "golden", "small")
CHECKPOINT = GOLDEN + ".ckpt-1234"
ENDINGS = (".index", ".data-00000-of-00001")
CONFIGS = {"data_config": "seq_mnist_data.py", "model_config": "mlp_mnist_model.py"}
SMALL = {"n_units": 1, "n_what": 3, "glimpse_size": 4, "n_steps_per_image": 2}


def golden_flags():
    with open(GOLDEN + ".flags.json") as file:
        stored = json.load(file)
    return dict(Settings()._asdict(), compact=True, **CONFIGS, data_dir="data/multi_mnist", **stored)


@pytest.fixture(scope="module")
def golden_run(tmp_path_factory):
    """The golden checkpoint as a run's folder."""
    folder = tmp_path_factory.mktemp("golden") / "run"
    path = conversion.convert(CHECKPOINT, golden_flags(), str(folder))
    assert path == str(folder / "checkpoints" / "model-1234")
    assert sorted(content_of(folder)) == sorted(
        [*(f"checkpoints/model-1234{ending}" for ending in ENDINGS), "flags.json"]
    )
    return folder


def same_bits(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def test_the_golden_weights_under_our_names(golden_run):
    before, after = checkpoints.read(CHECKPOINT), checkpoints.latest(str(golden_run / "checkpoints")).values
    names = dict(reference_to_ours(), global_step="global_step")
    assert set(after) == set(names.values())
    for name, ours in names.items():
        assert same_bits(after[ours], before[name]), name


def test_the_golden_weights_back_again_bit_for_bit(golden_run, tmp_path, monkeypatch):
    shapes = {
        name: value.shape for name, value in checkpoints.read(golden_run / "checkpoints/model-1234").items()
    }
    monkeypatch.setattr(conversion, "_shapes", lambda *_: shapes)  # made once, for the way there
    conversion.convert(str(golden_run), golden_flags(), str(tmp_path / "back"), conversion.RELEASE)
    back = content_of(tmp_path / "back")
    assert sorted(back) == sorted([*(f"model.ckpt-1234{ending}" for ending in ENDINGS), "flags.json"])
    for ending in ENDINGS:
        with open(CHECKPOINT + ending, "rb") as file:
            assert back[f"model.ckpt-1234{ending}"] == file.read()
    flags = golden_flags()
    assert json.loads(back["flags.json"].decode()).items() <= flags.items()


@pytest.mark.slow
def test_the_converted_model_gives_the_stored_pass(golden_run):
    case = load_case(GOLDEN + ".npz")
    values = checkpoints.latest(str(golden_run / "checkpoints")).values
    arrays = {key: value for key, value in case.arrays.items() if not key.startswith("param/")}
    arrays.update({f"param/{name}": values[ours] for name, ours in reference_to_ours().items()})
    comparisons = comparison.verify(case._replace(arrays=arrays))
    assert len(comparisons) == 54 + 105 and all(one.passed for one in comparisons)


@pytest.mark.slow
def test_a_converted_model_is_evaluated(golden_run, tmp_path):
    data_dir = str(tmp_path / "set")
    options = moving_mnist.Options(seq_len=2)
    moving_mnist.create(data_dir, mnist.load_bundle(), options, num_train=4, num_valid=4, num_workers=1)
    model, step = opening.open_run(str(golden_run), data_dir=data_dir)
    numbers = model.evaluate("valid")
    model.close()
    assert step == 1234 and np.isfinite(numbers.normalised_iwae)


@pytest.fixture(scope="module")
def small():
    """A small model: its flags, the release's values, and the shapes of our variables, made once."""
    flags = dict(golden_flags(), **SMALL)
    rng = np.random.RandomState(0)
    shapes = variable_shapes(dict(reference_cases.DEFAULT_FLAGS, **SMALL), (9, 8))
    values = {name: np.asarray(rng.randn(*shape), np.float32) for name, shape in shapes.items()}
    return flags, dict(values, global_step=np.int64(10**12)), conversion._shapes(flags, (9, 8, 1))


@pytest.fixture
def convert(small, tmp_path, monkeypatch):
    """A function that converts the small model, with changes to its values and flags; its shapes are made already."""
    flags, values, shapes = small
    monkeypatch.setattr(conversion, "_shapes", lambda *_: shapes)

    def convert(changes=(), name="model.ckpt-5", target=conversion.RUN, values=values, **other_flags):
        changed = {key: value for key, value in {**values, **dict(changes)}.items() if value is not None}
        checkpoints.write(str(tmp_path / name), changed)
        return conversion.convert(
            str(tmp_path / name), {**flags, **other_flags}, str(tmp_path / "out"), target
        )

    return convert


def refused(tmp_path, call, *arguments, **options):
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert not (tmp_path / "out").exists() and not [
        name for name in os.listdir(str(tmp_path)) if name[0] == "."
    ]
    sentence = str(caught.value)
    assert sentence.isprintable() and sentence.endswith(".")
    return sentence


WEIGHT = "discovery/vanilla_rnn/in_to_hidden/w"


@pytest.mark.slow
def test_what_optimisers_keep_is_left_out(convert, small):
    slots = [
        f"{WEIGHT}/RMSProp", f"{WEIGHT}/RMSProp_1", f"train/{WEIGHT}/Momentum", f"{WEIGHT}/Adam", f"{WEIGHT}/Adam_1",
        "beta1_power", "train/beta2_power", "beta1_power_1",
        *(f"{WEIGHT}/{name}" for name in ("Adadelta", "Adadelta_1", "Adagrad", "AdagradDA", "Ftrl", "Ftrl_1")),
    ]  # fmt: skip
    path = convert({name: np.zeros(3, np.float32) for name in slots})
    found = checkpoints.read(path)
    names = reference_to_ours()
    assert set(found) == {*names.values(), "global_step"} and found["global_step"] == 10**12
    assert all(same_bits(found[ours], small[1][name]) for name, ours in names.items())


def test_what_our_optimiser_keeps_is_left_out(convert, small, tmp_path):
    slots = {name: np.zeros(3, np.float32) for name in ("change/RMSProp", "change/RMSProp_1", "beta1_power")}
    ours = dict(small_ours(convert, tmp_path), **slots)
    found = checkpoints.read(convert(name="model-5", target=conversion.RELEASE, values=ours))
    assert set(found) == set(small[1]) and all(
        same_bits(found[name], small[1][name]) for name in reference_to_ours()
    )


def test_zeros_denormals_and_signs_stay_what_they_are(convert, small):
    odd = np.array([0x80000000, 1, 0x807FFFFF, 0x7F7FFFFF], np.uint32).view(np.float32)
    value = np.resize(odd, small[1][WEIGHT].shape)
    found = checkpoints.read(convert({WEIGHT: value}))
    assert same_bits(found[reference_to_ours()[WEIGHT]], value)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({WEIGHT: None}, f"lacks the variable {WEIGHT}, which a model with these flags has"),
        ({"global_step": None}, "lacks the variable global_step"),
        (
            {"other": np.float32(0), "x": np.float32(0)},
            "has the variable other and 1 more, which a model with",
        ),
        ({WEIGHT: np.zeros((3, 4), np.float32)}, f"Variable {WEIGHT} has shape [3, 4] in"),
        ({WEIGHT: np.float32(0)}, f"Variable {WEIGHT} has shape [] in"),
        ({"decoder/air_decoder/Variable": np.float32(0)}, "has shape [] in"),
        ({"decoder/air_decoder/Variable": np.zeros((0, 8, 1), np.float32)}, "has shape [0, 8, 1] in"),
        ({"decoder/air_decoder/output_std": np.float32("nan")}, "output_std is not finite"),
        ({"decoder/air_decoder/output_std": np.float32("inf")}, "output_std is not finite"),
        ({"decoder/air_decoder/output_std": np.float64(1)}, "output_std is of type float64"),
        ({"decoder/air_decoder/output_std": np.array("a", object)}, "output_std is of type bytes"),
        ({"global_step": np.float32(1)}, "global_step is of type float32"),
        ({"global_step": np.int64(-1)}, "global_step is not finite, or negative"),
        ({"global_step": np.zeros(2, np.int64)}, "global_step has shape [2]"),
    ],
)
def test_other_variables_are_refused_by_name(convert, tmp_path, changes, said):
    sentence = refused(tmp_path, convert, changes)
    assert said in sentence and "model.ckpt-5" in sentence


def test_a_model_of_another_kind_is_refused(convert, tmp_path):
    said = refused(tmp_path, convert, prop_prior_type="rw")
    assert "lacks the variable propagation/random_walk_propagate_prior/linear/b" in said
    assert "`transition=GRU` is refused" in refused(tmp_path, convert, transition="GRU")
    ours = {
        name: value for name, value in small_ours(convert, tmp_path).items() if "scale_offset" not in name
    }
    said = refused(tmp_path, convert, name="model-5", target=conversion.RELEASE, values=ours)
    assert "lacks the variable sqair/discovery_core/where_statistics/scale_offset and 1 more" in said


def small_ours(convert, tmp_path):
    found = checkpoints.read(convert())
    shutil.rmtree(str(tmp_path / "out"))
    return found


def test_another_size_is_refused(convert, tmp_path):
    shapes = variable_shapes(dict(reference_cases.DEFAULT_FLAGS, **dict(SMALL, n_what=4)), (9, 8))
    values = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    sentence = refused(tmp_path, convert, values)
    assert "air_encoder/gaussian_from_param_vec/linear/w has shape [32, 8] in" in sentence
    assert "but [32, 6] in the model with these flags; give the flags" in sentence


def test_the_number_of_updates_names_the_checkpoint_if_nothing_else_does(convert):
    assert convert(name="weights").endswith(f"model-{10**12}")


def test_files_that_are_not_there_or_damaged_or_in_the_way(convert, small, tmp_path):
    flags = small[0]
    call = lambda source: conversion.convert(source, flags, str(tmp_path / "out"))  # noqa: E731
    assert "is incomplete: none.index is missing; give `source`" in refused(
        tmp_path, call, str(tmp_path / "none")
    )
    assert "is incomplete" in refused(tmp_path, call, str(tmp_path))
    checkpoints.write(str(tmp_path / "x"), small[1])
    os.truncate(str(tmp_path / "x") + ENDINGS[1], 1000)
    assert "is truncated or damaged" in refused(tmp_path, call, str(tmp_path / "x"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="is in use already"):
        convert()
    assert sorted(content_of(tmp_path / "out")) == ["thesis.tex"]


def refused_by_the_script(*arguments):
    status, printed, errors = run_script("convert_checkpoint.py", *arguments)
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    return errors


@pytest.mark.slow
def test_the_script_takes_the_flags_of_the_source(tmp_path):
    flags = tmp_path / "flags.json"
    flags.write_text('{"n_units": "many", "data_config": "evil.py", "flagfile": "/etc/passwd"}')
    said = refused_by_the_script(f"--source={CHECKPOINT}", f"--out={tmp_path}/out", f"--source_flags={flags}")
    assert said.startswith("--n_units=many is refused: it takes a positive integer")
    assert os.listdir(str(tmp_path)) == ["flags.json"]


@pytest.mark.slow
def test_the_script_refuses(tmp_path):
    source, out = f"--source={CHECKPOINT}", f"--out={tmp_path}/out"
    (tmp_path / "flags.json").write_text("[]")
    assert "--source is missing; see --help" in refused_by_the_script(out)
    assert "--out is missing; see --help" in refused_by_the_script(
        source, f"--source_flags={GOLDEN}.flags.json"
    )
    assert "tests/golden/flags.json cannot be read: " in refused_by_the_script(source, out)
    said = refused_by_the_script(source, out, f"--source_flags={tmp_path}/flags.json")
    assert "flags.json holds no flags; give --source_flags" in said
    assert os.listdir(str(tmp_path)) == ["flags.json"]


@pytest.mark.slow
def test_the_script_there_and_back(tmp_path):
    folder, back = f"{tmp_path}/run", f"{tmp_path}/back"
    flags = f"--source_flags={GOLDEN}.flags.json"
    status, out, err = run_script(
        "convert_checkpoint.py", f"--source={CHECKPOINT}", flags, f"--out={folder}", "--k_particles=2"
    )
    assert (status, out, err) == (
        0,
        f"Wrote {folder}/checkpoints/model-1234, and its flags in {folder}.\n",
        "",
    )
    assert run_script("convert_checkpoint.py", "--to=release", f"--source={folder}", f"--out={back}")[0] == 0
    for ending in ENDINGS:
        with open(CHECKPOINT + ending, "rb") as one, open(f"{back}/model.ckpt-1234{ending}", "rb") as other:
            assert one.read() == other.read()
    data_dir = str(tmp_path / "set")
    moving_mnist.create(
        data_dir,
        mnist.load_bundle(),
        moving_mnist.Options(seq_len=2),
        num_train=4,
        num_valid=4,
        num_workers=1,
    )
    status, out, err = run_script("evaluate.py", f"--run={folder}", f"--data={data_dir}", "--json")
    assert (status, err) == (0, "") and np.isfinite(
        json.loads(out)[0]["estimates"]["normalised_iwae"]["mean"]
    )
