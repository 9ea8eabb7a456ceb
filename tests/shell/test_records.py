"""The record of a run: what options and images make of it, how it is stored, and when two are the same run."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data import DataError
from data import load as load_data
from experiment import command_line, training
from experiment.command_line import OF_A_RUN, parsed
from experiment.defaults import BY_DATA, row_of
from experiment.record import KINDS, Images, Run, Start, UsageError, as_json, bounds, flag, of_json, own_options
from ref.adam import adam, step_sizes
from ref.densities import LIKELIHOODS
from ref.objectives import METHODS, Option
from tests.shell.runs import chosen, completed

pytestmark = pytest.mark.usefixtures("elsewhere")
PRETRAINED = Start("runs/a", "0" * 64)
NUMBERS, COUNTS = st.floats(1e-3, 1, exclude_max=True), st.integers(1, 2**62)  # within the range of every option
NAMES = {name: st.sampled_from(kind.names) for name, kind in KINDS.items() if kind.names}
OF_A_RUN_NAMES = ("method", "multiplier", "likelihood", "activation", "output", "schedule", "precision")
IMAGES = {"size": st.none() | COUNTS, "shape": st.tuples(COUNTS, COUNTS, COUNTS)}
RUNS = st.builds(  # of what is not given here the type says enough
    Run,
    images=st.builds(Images, split=NAMES["split"], binarize=NAMES["binarize"], **IMAGES),
    options=NUMBERS,  # for each that the method has
    hidden=st.lists(COUNTS, max_size=3).map(tuple),
    adam=st.tuples(NUMBERS, NUMBERS, NUMBERS),
    **{name: NAMES[name] for name in OF_A_RUN_NAMES},
    **dict.fromkeys(("samples", "latent", "epochs", "batch_size", "seed", "nll_samples"), COUNTS),
    **dict.fromkeys(("lr", "weight_decay", "multiplier_rate", "variance"), NUMBERS),
)


def digits(*argv: str) -> Run:
    return completed("--data=digits", *argv).run


def whole(run: Run) -> Run:
    """The run without what its method, its likelihood and its network do not have."""
    likelihood = LIKELIHOODS[run.likelihood]
    lacks = [] if bounds(run.objective) else ["multiplier", "multiplier_rate"]
    lacks += [] if likelihood.has_variance else ["variance"]
    lacks += [] if run.hidden else ["activation"]
    output = "sigmoid" if likelihood.of_logits else run.output
    options = dict.fromkeys(own_options(run.objective), run.options)
    return run.but(options=options, output=output, **dict.fromkeys(lacks))


@given(RUNS.map(whole))
def test_a_record_is_read_back_from_json_as_it_was_to_the_last_field(run):
    again = of_json(json.loads(json.dumps(as_json(run))))
    assert again == run and repr(again) == repr(run)  # which has the fields that == leaves out


def test_a_record_with_another_value_in_any_field_is_another_run():
    run = digits().but(start=PRETRAINED)
    images, start, same = run.images, run.start, dataclasses.replace
    other = {"images": same(images, sha256="1"), "start": None, "options": {"kappa": 9.0}}
    for field in dataclasses.fields(Run):
        value = getattr(run, field.name)
        if field.name not in other:
            other[field.name] = value + type(value)([9] if isinstance(value, tuple) else 1)
        assert run == run.but(**{field.name: value}) != run.but(**{field.name: other[field.name]}), field
    for name, value in {"source": "a", "name": "a", "size": 9, "skip_broken": True}.items():
        assert same(images, **{name: value}) == images, name
    for name, value in {"shape": (4, 16, 1), "sha256": "0", "binarize": "static", "validation": 9}.items():
        assert same(images, **{name: value}) != images, name
    assert same(start, folder="moved") == start != same(start, sha256="1")
    assert {run: 1, run.but(): 2} == {run: 2}
    assert len({run, run.but(options={"kappa": 2.0})}) == 2  # it may be a key


# Every option that describes a run, and what some of them need beside them.
CHANGES = "--method=vae --kappa=2 --multiplier=plain --multiplier-rate=0.1 --samples=2 --variance=0.1 --latent=3 "
CHANGES += "--hidden=7 --activation=tanh --output=sigmoid --epochs=3 --batch-size=20 --lr=0.1 --seed=1 "
CHANGES += "--binarize=static --schedule=constant --adam=0.5,0.5,0.1 --weight-decay=0.1 --precision=float64 "
CHANGES += "--nll-samples=7"
WITH_OTHERS = {
    # the options of each loss, whatever methods there are
    **{f"{flag(o)}=0.3": [f"--method={name}"] for name, method in METHODS.items() for o in method.options},
    "--preset=burda": ["--method=iwae"],
    "--likelihood=bernoulli": ["--binarize=dynamic", "--output=sigmoid"],
    "--data=sprites": ["--likelihood=gaussian"],
    "--rate=3": ["--method=rate"],
    "--validation=5": [],
    "--precision=tf32": [],
    "--size=3": ["--data=pictures"],
    "--skip-broken": ["--data=pictures"],
}


TRIED = {next(iter(parsed([option]))): option for option in (*CHANGES.split(), *WITH_OTHERS)}


@pytest.mark.parametrize("name", [name for rows in OF_A_RUN.values() for name in rows])
def test_an_option_that_describes_a_run_changes_its_record_and_is_typed_as_it_was(name, tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, (5, 5), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"pictures/{i}.png")
    option = TRIED[name]
    beside, value = WITH_OTHERS.get(option, []), parsed([option])[name]
    before, after = (digits(*beside, *more) for more in ([], [option]))
    assert repr(after) != repr(before)
    assert after != before or name == "skip_broken"  # none of them is broken
    assert name == "preset" or after.typed[name] == value


ALTERED = [
    *({"method": "gecko"}, {"multiplier": "quick"}, {"precision": "float16"}, {"seed": 1.5}, {"epochs": True}),
    *({"latent": None}, {"latent": "3"}, {"lr": "fast"}, {"lr": math.nan}, {"variance": math.inf}, {"hidden": 3}),
    *({"hidden": [1.5]}, {"adam": [0.5, 0.5]}, {"options": {"kappa": None}}, {"start": {}}, {"images": None}),
    *({"younger": 1}, {"seed": ...}, {"seed": -1}, {"latent": 0}, {"epochs": 2**63}, {"batch_size": 0}),
    *({"options": {}}, {"options": {"kappa": 1.0, "beta": 1.0}}, {"method": "vae"}, {"multiplier": None}),
    *({"multiplier_rate": None}, {"variance": None}, {"activation": None}, {"hidden": []}, {"likelihood": "bernoulli"}),
    *({"likelihood": "bernoulli", "variance": None}, {"lr": 10**309}),  # with a linear output; no float is so large
    *({"options": {"kappa": -1.0}}, {"options": {"kappa": 0.0}}, {"lr": -1.0}, {"lr": 0}, {"variance": 0.0}),
    *({"weight_decay": -0.1}, {"hidden": [0]}, {"samples": 0}, {"adam": [0.9, 1.0, 1e-8]}, {"adam": [0.9, 0.9, 0.0]}),
    *({"adam": [0.9, math.nan, 1e-8]}, {"options": {"kappa": 1e13}}, {"images": {"shape": (8, 0, 1)}}),
    *(
        {"images": {"shape": (8, 8)}},
        {"images": {"binarize": "often"}},
        {"images": {"split": "odd"}},
        {"images": {"validation": -1}},
    ),
    *({"method": "vae", "options": {"beta": -1.0, "warm_up": 0.0}, "multiplier": None, "multiplier_rate": None},),
]


@pytest.mark.parametrize("changes", ALTERED, ids=str)
def test_what_is_no_record_of_a_run_is_refused_with_a_sentence(changes):
    content, name = as_json(digits()), "[^\n]+ of a run"
    if changes.get("images"):
        (name,) = changes["images"]
        changes = {"images": content["images"] | changes["images"]}
    content = {name: value for name, value in (content | changes).items() if value is not ...}
    with pytest.raises(DataError, match=rf"\A[^\n]*{name} cannot be [^\n]+\Z"):
        of_json(content)


GREY, BLACK_AND_WHITE = [0.2, 0.4, 0.6, 0.8], [0, 0.001, 0.999, 1]


@pytest.mark.parametrize("scale", [1, 1e-3], ids=["", "dark"])  # what is black and white is so for any range
@pytest.mark.parametrize(("images_a_unit", "kind"), [(28, GREY), (7, BLACK_AND_WHITE)], ids=["photographs", "drawings"])
@pytest.mark.parametrize(("units", "expected"), [(1, (8,)), (40, (40,)), (511, (511,)), (512, (512, 256))])
def test_a_hidden_layer_grows_with_the_images_and_sooner_for_drawings(images_a_unit, kind, units, expected, scale):
    images = np.full((units * images_a_unit, 4), kind, np.float32) * np.float32(scale)
    assert chosen(images, kappa=1.0, latent=1)["hidden"] == expected
    assert chosen(images, kappa=1.0, latent=1, hidden=(64, 32))["hidden"] == (64, 32)


def test_the_rate_that_is_chosen_is_what_the_best_linear_vae_pays_for_kappa():
    x = load_data("digits").train
    e = np.linalg.eigvalsh(np.cov(x.T / 255, bias=True))
    levels = np.linspace(1e-4, 1, 100_000)
    level = levels[np.searchsorted(np.minimum(e[:, None], levels).sum(axis=0), 1.5**2)]
    rate = 0.5 * np.log(np.maximum(e / level, 1)).sum()
    assert chosen(x, "rate", kappa=1.5)["rate"] == pytest.approx(rate, rel=2e-3)
    assert chosen(x, "rate", kappa=9.0)["rate"] == 0.1


@pytest.mark.parametrize(("count", "batch", "epochs"), [(270, 16, 188), (3600, 128, 108), (50_000, 128, 20)])
def test_a_few_images_train_for_3000_steps_and_many_for_twenty_epochs(count, batch, epochs):
    found = chosen(np.zeros((count, 2), np.uint8), kappa=1.0, latent=1)
    assert (found["batch_size"], found["epochs"]) == (batch, epochs)
    assert epochs == 20 or (epochs - 1) * (count // batch) < 3000 <= epochs * (count // batch)


def test_latents_are_as_many_as_the_best_linear_vae_uses_at_kappa():
    """Eight directions of variance 1, 1/2, …, 1/128: at a level of 1/20 the first five are in use."""
    scores, variances = np.random.default_rng(0).normal(size=(2000, 8)), 0.5 ** np.arange(8)
    scores = np.linalg.qr(scores - scores.mean(axis=0))[0] * math.sqrt(2000)  # uncorrelated, of mean 0 and variance 1
    images = np.pad(scores * np.sqrt(variances), ((0, 0), (0, 4))) + 0.5
    kappa = math.sqrt(np.minimum(variances, 1 / 20).sum())
    assert chosen(images, kappa=kappa)["latent"] == 5


@pytest.mark.parametrize("data", [name for name in BY_DATA if row_of(name)["output"] == "linear"])
def test_a_batch_with_an_outlier_moves_no_weight_by_more_than_the_learning_rate(data):
    beta1, beta2, epsilon = row_of(data)["adam"]
    theta, m, v = np.zeros(1), np.zeros(1), np.zeros(1)
    gradients = [*np.random.default_rng(0).choice([-1.0, 1.0], size=5000), 1e6]  # the outlier comes last
    for t, g in enumerate(gradients):
        before = theta.copy()
        adam(np, theta, m, v, np.array([g]), *step_sizes(np, t, 0.5, beta1, beta2, epsilon), beta1, beta2)
    assert 0.25 < before - theta < 0.5001  # with β₂ = 0.999: 1.58


def test_the_preset_of_burda_is_the_protocol_and_each_option_gives_way():
    chosen = ["--method=iwae", "--preset=burda", "--data=sprites"]
    typed = completed(*chosen).run.typed
    protocol = {"hidden": (200, 200), "latent": 50, "activation": "tanh", "likelihood": "bernoulli"}
    protocol |= {"output": "sigmoid", "binarize": "dynamic", "batch_size": 20, "weight_decay": 0}
    protocol |= {"adam": (0.99, 0.999, 1e-4), "schedule": "stages", "lr": 1e-3}
    protocol |= {"epochs": 3280, "nll_samples": 5000}
    assert typed == typed | protocol
    other = "--latent=7 --adam=0.5,0.9,1e-3 --schedule=cosine --binarize=none --epochs=2"
    own = {"latent": 7, "adam": (0.5, 0.9, 1e-3), "schedule": "cosine", "binarize": "none", "epochs": 2}
    assert completed(*chosen, *other.split()).run.typed == typed | own
    sprites = completed("--data=sprites").run.typed  # grey, unless told otherwise
    assert sprites == sprites | {"likelihood": "bernoulli", "binarize": "none", "output": "sigmoid"}
    assert "variance" not in sprites
    assert completed("--data=sprites", "--likelihood=gaussian").run.variance == 0.5


def test_a_record_reaches_the_plan():
    chosen = ["--schedule=constant", "--lr=0.02", "--samples=3", "--weight-decay=0.03", "--batch-size=100"]
    chosen += ["--multiplier=plain", "--kappa=3", "--adam=0.5,0.6,0.1"]
    plan = training.plan_of(digits(*chosen), 1498)
    wanted = {"schedule": "constant", "lr": 0.02, "samples": 3, "weight_decay": 0.03, "batch_size": 100}
    wanted |= {"steps_per_epoch": 14, "epochs": 100, "adam": (0.5, 0.6, 0.1), "options": {}}
    wanted |= {"multiplier": "plain", "multiplier_rate": 1e-3, "target": 9.0}
    assert plan == plan._replace(**wanted)
    assert training.plan_of(digits("--method=beta-vae", "--beta=0.2"), 10_000).options == {"beta": 0.2}
    plan = training.plan_of(digits("--method=sigma-vae"), 1498)
    assert (plan.multiplier_rate, plan.target) == (32, 0)  # half the pixels, over the error
    for chosen, rate in (([], 0.01), (["--epochs=1000"], 56 / 11_000), (["--multiplier-rate=0.5"], 0.5)):
        assert digits(*chosen).multiplier_rate == pytest.approx(rate)


def test_the_name_of_a_run_says_which_options_are_not_at_their_default():
    np.save("own.npy", np.random.default_rng(0).random((50, 6, 6)))
    for name, *options in (
        ("own-geco-kappa1-latent2-0", "--data=own.npy", "--kappa=1", "--latent=2"),
        ("digits-geco-precisionfloat64-0", "--precision=float64"),
        ("digits-geco-0",),
        ("digits-geco-0", "--kappa=1.2", "--hidden=128,64"),
        ("digits-geco-kappa1-0", "--kappa=1"),
        ("digits-geco-hidden64x32-lr0.002-3", "--seed=3", "--hidden=64,32", "--lr=0.002"),
        ("digits-iwae-presetburda-epochs3-0", "--method=iwae", "--preset=burda", "--epochs=3", "--binarize=dynamic"),
    ):
        assert completed("--data=digits", *options).name == name


def test_a_constraint_with_an_option_of_its_own_is_one_row(monkeypatch):
    row = METHODS["rate"]
    budget = row.constraint._replace(name="budget", option=Option(12.0, "B", "nats"), power=2)
    monkeypatch.setitem(METHODS, "budget", row._replace(constraint=budget))
    run = completed("--method=rate", "--data=digits", method="budget").run
    assert (run.options, run.target, run.multiplier) == ({"budget": 12.0}, 144.0, "relative")
    without = budget._replace(option=Option(None, "B", "nats"))
    monkeypatch.setitem(METHODS, "budget", row._replace(constraint=without))
    with pytest.raises(UsageError, match="--method budget has no default for --budget: give a number"):
        completed("--data=digits", method="budget")


def test_kappa_is_chosen_from_pixels_as_they_are_drawn():
    """Pixels that are white with probability m have the variance m·(1 − m). Images of two values are drawings."""
    np.save("own.npy", np.random.default_rng(0).choice([0.2, 0.5], (400, 10, 10)))
    grey, drawn = (completed("--data=own.npy", *options).run.target for options in ([], ["--binarize=dynamic"]))
    assert grey == pytest.approx(0.3 * 100 * 0.15**2, rel=0.02)
    assert drawn == pytest.approx(0.3 * 100 * 0.35 * 0.65, rel=0.02)


def test_what_the_images_have_chosen_is_said_and_what_was_typed_is_not():
    images = np.random.default_rng(0).random((50, 6, 6))
    np.savez("mine.npz", train=images[:40], test=images[40:])
    others = "--hidden 8, --variance 0.006944, --epochs 1500, --batch-size 16"  # 0.5² / 36; 3,000 steps, two an epoch
    assert completed("--data=mine.npz", "--kappa=0.5", "--latent=3").chosen == f"\nchosen from the images: {others}"
    found = completed("--data=mine.npz", "--latent=3")
    tolerated = f"κ tolerates an RMSE of {found.run.options['kappa'] / 6:.3g} a pixel, PSNR "
    assert "--latent" not in found.chosen and tolerated in found.chosen
    assert completed("--data=digits").chosen == ""


def test_help_shows_every_default_by_data_set_where_it_differs():
    text = " ".join(command_line.parser().format_help().split()).replace("- ", "-")  # a line may end within a name
    assert "mnist-10k: 5.0; digits: 1.2; mnist: 4.0; cifar10: 3.394; sprites: 2.0; own images: chosen from them" in text
    assert "sprites: bernoulli" in text and "(silu)" in text
    assert all(f"{name} {method.samples}" in text for name, method in METHODS.items())
    assert "by data set" not in text
