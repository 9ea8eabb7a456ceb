"""A trained model in use: what it answers is what its run has found, and other input gets one sentence."""

import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import run
from backend import BackendError
from data import binarize as binarized
from data import load as load_data
from experiment import UsageError, evaluation, fit, load
from experiment.command_line import option_of
from ref.densities import LIKELIHOODS
from ref.more import metrics
from tests.shell.runs import QUICK, json_of, made, refused, status
from tests.tested import NAME, on_command_line

BOTH = load_data("digits")
DIGITS = BOTH.test
pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def model(folder):
    return load(folder, NAME)


def test_a_model_is_what_its_checkpoint_holds(model, folder):
    mean, std = model.encode(DIGITS)
    assert mean.shape == std.shape == (299, 4) and (std > 0).all()
    summary = json_of(folder, "summary.json")
    at_mean = np.sum((model.reconstruct(DIGITS).reshape(299, -1) - DIGITS / 255) ** 2, axis=1).mean()
    assert at_mean <= summary["error_at_mean"] < 1.01 * at_mean  # pictures are clipped to [0, 1]
    np.testing.assert_array_equal(model.decode(mean), model.reconstruct(DIGITS))
    assert model.theta.shape == np.load(folder / "checkpoint.npz")["theta"].shape
    assert model.shape == (8, 8, 1)


@pytest.mark.parametrize("form", [(8, 8, 1), (8, 8), (64,)])
def test_images_mean_the_same_in_every_form(form, model):
    images, expected = DIGITS[:5].reshape(5, *form), model.encode(DIGITS[:5])
    for same in (images, (images / 255).astype(np.float32), images / 255):
        np.testing.assert_allclose(model.encode(same), expected, atol=1e-6)


def test_images_and_latents_of_another_kind_get_one_sentence(model):
    for images, sentence in (
        (DIGITS[:, :5], r"shape \(299, 5\), expected \(N, 8, 8, 1\)"),
        (DIGITS[0], r"shape \(64,\)"),
        (DIGITS[:0], r"shape \(0, 64\)"),
        (DIGITS.astype(int), "int64, expected uint8"),
        (DIGITS.astype(float), r"in \[0, 1\], found 0 to 255"),
        (DIGITS * np.nan, r"found 19,136 NaN"),
    ):
        with pytest.raises(ValueError, match=sentence):
            model.encode(images)
    for z in (np.full((299, 4), np.inf), np.zeros((299, 3)), np.zeros(4), np.zeros((0, 4))):
        with pytest.raises(UsageError, match="z "):
            model.decode(z)
    with pytest.raises(UsageError, match="samples must be"):
        model.log_likelihood(DIGITS, samples=0)


def test_samples_are_decoded_draws_of_the_prior_by_their_seed(model):
    samples = model.sample(20, seed=3)
    assert samples.shape == (20, 8, 8, 1) and 0 <= samples.min() < samples.max() <= 1
    assert (samples == model.sample(20, seed=3)).all()
    assert (samples != model.sample(20, seed=4)).any()


def test_an_interpolation_decodes_the_line_between_the_latents_of_two_images(model):
    (first, last), ((a, b), _) = DIGITS[[3, 8]], model.encode(DIGITS[[3, 8]])
    found = model.interpolate(first.reshape(8, 8), last.reshape(8, 8, 1), 5)
    line = np.stack([a, 0.75 * a + 0.25 * b, (a + b) / 2, 0.25 * a + 0.75 * b, b])
    np.testing.assert_allclose(found, model.decode(line), atol=1e-6)
    for ends in ((a, b), (a[None], last), (first / 255, b)):
        np.testing.assert_allclose(model.interpolate(*ends, 5), found, atol=1e-6)
    assert len(model.interpolate(first, last)) == 10
    with pytest.raises(UsageError, match="steps must be an integer above 1, found 1"):
        model.interpolate(first, last, 1)
    with pytest.raises(ValueError, match="shape"):
        model.interpolate(first, b[:3])


def test_a_row_that_may_be_an_image_or_latents_is_refused():
    rows = np.random.default_rng(0).uniform(size=(40, 6))
    model = fit(rows, "vae", shape=(1, 6, 1), epochs=1, hidden=(8,), latent=6, backend=NAME)
    with pytest.raises(UsageError, match=r"give an image as \(1, 6, 1\), and latents as \(1, 6\)"):
        model.interpolate(rows[0], rows[1])
    image, z = rows[0].reshape(1, 6, 1), model.encode(rows[1:2])[0]
    np.testing.assert_allclose(model.interpolate(image, z, 2), model.reconstruct(rows[:2]), atol=1e-6)


@pytest.mark.parametrize("binarize", ["none", "dynamic"])
def test_scores_agree_with_the_figures_of_the_run(binarize):
    summary, model = made("out", "--method", "iwae", "--binarize", binarize), load("out", NAME)
    test = DIGITS if binarize == "none" else binarized(DIGITS, 1)  # the draw by which the run is judged
    scores = model.scores(test, samples=3)
    for name in ("rate", "error_at_mean"):
        assert scores[name].mean() == pytest.approx(summary[name], rel=1e-6)
    # by other noise, of which each image has its own
    assert scores["log_likelihood"].mean() == pytest.approx(-summary["nll"], abs=0.05)
    assert scores["error"].mean() == pytest.approx(summary["error"], rel=0.01)


def test_fit_trains_what_the_command_line_trains():
    """The run of the digits' own split, in Python, to the bit; kept in a folder or not."""
    typed = made("typed") and load("typed", NAME)
    chosen = {"epochs": 2, "hidden": (16,), "latent": 4, "kappa": 1.2, "batch_size": 128, "nll_samples": 3}
    for out in (None, "fitted"):
        model = fit(BOTH.train, test=DIGITS, backend=NAME, out=out, **chosen)
        assert (model.backend.to_host(model.theta) == typed.backend.to_host(typed.theta)).all()
        np.testing.assert_array_equal(model.encode(DIGITS), typed.encode(DIGITS))
        assert model.run.images == typed.run.images and model.history[-1]["test_rate"] is not None
        assert out is None or model.history == load(out).history


def test_vectors_that_are_no_pictures_work_throughout():
    rng = np.random.default_rng(0)
    spectra = 0.5 + 0.003 * rng.normal(size=(300, 3)) @ rng.normal(size=(3, 20))
    model = fit(spectra, "vae", backend=NAME, epochs=20, latent=5)
    mean, std = model.encode(spectra)
    assert (mean.var(axis=0) > 0.5).sum() == 3  # with a variance of one half none would be active
    assert model.shape == (1, 20, 1) and mean.shape == std.shape == (300, 5)
    assert model.inverse_transform(mean).shape == spectra.shape
    assert model.sample(5).shape == (5, 1, 20, 1)


@pytest.mark.parametrize("use", ["--load kept --evaluate", "--compare kept --out compared", "--resume kept"])
def test_a_run_of_fit_is_evaluated_compared_and_gone_on_with_once_its_images_are_in_a_file(use, capsys):
    images = DIGITS.reshape(-1, 8, 8)
    fit(images, out="kept", backend=NAME, epochs=2, hidden=(8,), latent=3, nll_samples=2)
    command = ["run.py", "--data=images in memory", "--method=geco", "--epochs=2", "--hidden=8", "--latent=3"]
    assert json_of("kept", "config.json")["command"] == [*command, "--nll-samples=2"]
    page = unescape(re.sub("</?span>", "", Path("kept/report.html").read_text()))
    assert "experiment.fit(images, …) in Python" in page
    np.save("mine.npy", images)
    np.save("others.npy", images[::-1])
    use = [*use.split(), *on_command_line()]
    refused(capsys, use, "kept was trained on images in memory; add --data and a file that holds them")
    if "--evaluate" not in use:
        refused(capsys, [*use, "--data", "others.npy"], "others.npy are not those that .*kept was trained on")
    before = json_of("kept", "summary.json")
    assert run.main([*use, "--data", "mine.npy"]) == 0
    if "--evaluate" in use:
        again = json_of("kept", "evaluation-mine-nll2.json")
        assert again == before | {"data": "mine", "backend": again["backend"]}
    elif "--compare" in use:
        assert json_of("compared", "comparison.json")["test_images"] == 29
    else:
        assert load("kept").run.images.source == "mine.npy"
        assert json_of("kept", "summary.json")["data"] == "mine"


def test_fit_refuses_with_one_sentence(folder):
    for images, chosen, sentence in (
        (DIGITS, {"method": "gecko"}, "gecko"),
        (DIGITS, {"method": "all"}, "fit trains one of"),
        (DIGITS, {"backend": "numpie"}, "there is no backend 'numpie'; choose numpy, numba, cupy"),
        *((DIGITS, {name: 3}, f"fit has no option {name}; it takes method, .*kappa") for name in ("capa", "size")),
        *((DIGITS, {name: "x"}, f"fit has no option {name};") for name in ("resume", "load", "data", "data_dir")),
        *((DIGITS, {name: True}, f"fit has no option {name};") for name in ("evaluate", "sample", "compare", "force")),
        (DIGITS, {"hidden": (), "activation": "tanh"}, "--activation is not used by --hidden none"),
        (DIGITS, {"warm_up": 0.1}, "--warm-up is not used by --method geco"),
        (DIGITS, {"method": "iwae", "warm_up": 10}, r"warm_up=10 is not a finite number in \[0, 1\]"),
        (DIGITS[:1], {}, "at least two images, found 1"),
        (DIGITS[0], {}, r"images has shape \(64,\), expected"),
        (DIGITS[0, 0], {}, r"images has shape \(\), expected"),
        (DIGITS, {"test": DIGITS[:, :9]}, r"test has shape \(299, 9\), expected \(N, 8, 8, 1\)"),
        (DIGITS, {"kappa": -1}, "not a finite number in"),
        (DIGITS, {"test": DIGITS[:9], "validation": 9}, "give test or validation"),
        (DIGITS, {"shape": (7, 7, 1)}, "expected"),
        (DIGITS, {"out": folder}, "already holds another run, .*choose another --out"),
        (np.zeros((9, 4)), {}, "all the same"),
    ):
        with pytest.raises(BackendError if "backend" in chosen else ValueError, match=sentence) as refusal:
            fit(images, **{"backend": NAME, **chosen})
        assert "\n" not in str(refusal.value)


def test_an_option_in_python_is_that_of_the_command_line_whatever_its_numbers_are_made_of():
    for name, value, expected in (
        *(("hidden", value, (8, 4)) for value in ([8, 4], np.array([8, 4]), [np.int64(8), np.array(4)], "8,4")),
        *(("hidden", value, (8,)) for value in (8, np.int64(8), np.array(8), [8], range(8, 9))),
        *(("hidden", value, ()) for value in ((), [], "none", np.zeros(0, int))),
        *(("lr", value, 0.1) for value in (0.1, np.float32(0.1), np.float64(0.1), np.array(0.1, np.float32), "0.1")),
        *(("adam", kind([0.9, 0.999, 1e-8]), (0.9, 0.999, 1e-8)) for kind in (list, tuple, np.array, np.float32)),
        *(("kappa", value, 4.0) for value in (4, np.int32(4), 4.0, np.longdouble(4))),
        *(("epochs", np.uint8(3), 3), ("likelihood", np.str_("bernoulli"), "bernoulli"), ("preset", "burda", "burda")),
    ):
        found = option_of(name, value)
        assert found == expected and type(found) is type(expected), (name, value)
        assert all(type(inner) in (int, float) for inner in (found if isinstance(found, tuple) else ()))


def test_an_option_in_python_that_makes_no_sense_gets_one_short_sentence():
    for name, value, sentence in (
        *(("lr", value, "lr=.* is not a finite number in") for value in (0, -1, np.nan, np.inf, 10**400, True, [0.1])),
        *(("kappa", value, "kappa=.* call it for each value") for value in ((3, 4), np.zeros((50, 50)), range(2))),
        *(("hidden", value, r"hidden=.* and \(\) for no layer") for value in ([0], {3}, {}, b"3", [8.0], True, 2**63)),
        *(("adam", value, "adam=.* is not β₁,β₂,ε") for value in ([0.9, np.nan, 1e-8], [1, 0.5, 1e-8], [0.9] * 4, 0.9)),
        *(("epochs", value, "epochs=.* is not an integer above 0") for value in (0, 2.0, "2.5", 2**63, [3])),
        *(("seed", 10**5000, "seed=the integer is not"), ("seed", -1, "at least 0")),
        *(("validation", 0, "above 0"), ("precision", "tf", "one of .*float64, tf32")),
        *(("method", "gecko", "one of vae"), ("preset", "short", "one of burda"), ("activation", 3, "one of silu")),
    ):
        with pytest.raises(UsageError, match=sentence) as refusal:
            option_of(name, value)
        assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 250, (name, value)


def test_a_model_is_a_step_of_a_pipeline(model):
    pytest.importorskip("sklearn")
    from sklearn import linear_model, pipeline, preprocessing

    rows = pipeline.make_pipeline(preprocessing.FunctionTransformer(lambda x: x / 255), model)
    rows.fit(BOTH.train)
    np.testing.assert_allclose(rows.transform(DIGITS), model.encode(DIGITS)[0], atol=1e-6)
    expected = model.scores(DIGITS, 3)["calibrated_log_likelihood"]
    np.testing.assert_allclose(rows.score_samples(DIGITS / 1.0), expected, rtol=1e-5, atol=1e-5)
    back = rows[-1].inverse_transform(model.transform(DIGITS))
    np.testing.assert_array_equal(back, model.reconstruct(DIGITS).reshape(299, 64))
    classifier = pipeline.make_pipeline(model, linear_model.LogisticRegression(max_iter=1000))
    assert classifier.fit(BOTH.train, BOTH.labels[0]).score(DIGITS, BOTH.labels[1]) > 0.3


def used(folder: Path, *options) -> None:
    assert run.main(["--load", str(folder), *map(str, options)]) == 0


def test_encode_writes_of_each_picture_what_the_model_finds(folder, capsys):
    for name in ("b.png", "a/c.png"):
        Path("mine", name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(DIGITS[len(name)].reshape(8, 8)).save(Path("mine", name))
    used(folder, "--encode", "mine", "--nll-samples", "7", "--out", "e.npz")
    found, scores = dict(np.load("e.npz")), load(folder).scores(DIGITS[[7, 5]], 7)
    assert found["files"].tolist() == ["a/c.png", "b.png"]
    known = ("mean", "rate", "error", "error_at_mean", "log_likelihood", "calibrated_log_likelihood")
    expected = {name: scores[name] for name in known}
    expected["std"] = np.exp(scores["log_std"])
    assert {*found} == {*expected, "files"}
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6, err_msg=name)
    least = found["files"][scores["calibrated_log_likelihood"].argmin()]
    said = f"log p(x) in nats, at σ² = {load(folder).calibrated_variance:.3g}, is least for {least} ("
    assert said in capsys.readouterr().out


def test_a_likelihood_whose_best_variance_is_no_mean_of_errors_is_not_calibrated(model, monkeypatch):
    assert model.calibrated_variance > 0
    monkeypatch.setitem(LIKELIHOODS, "gaussian", LIKELIHOODS["gaussian"]._replace(calibrated=False))
    assert model.calibrated_variance is None and "calibrated_log_likelihood" not in model.scores(DIGITS[:2], 2)


def test_noise_is_an_outlier_under_the_calibrated_variance(folder):
    """Under σ² = ½ an image of noise scores as the mean image does; at σ*² its error counts."""
    model, noise = load(folder), np.random.default_rng(0).integers(0, 256, (40, 64), dtype=np.uint8)
    own, odd = (model.scores(pixels, 20) for pixels in (DIGITS[:40], noise))
    name = "calibrated_log_likelihood"
    assert own[name].min() > odd[name].max() + 5
    assert own[name].mean() > own["log_likelihood"].mean()
    expected = -32 * np.log(2 * np.pi * model.calibrated_variance)
    assert (odd[name] < expected).all()  # the density of a perfect reconstruction, before its rate


def test_evaluate_writes_the_table_again_beside_the_summary_and_never_over_it(folder, capsys):
    before = (folder / "summary.json").read_bytes()
    used(folder, "--evaluate", *on_command_line())
    again, summary = json_of(folder, "evaluation-nll3.json"), json_of(folder, "summary.json")
    assert again == {**summary, "backend": again["backend"]}
    used(folder, "--evaluate", "--nll-samples", "50")
    assert json_of(folder, "evaluation-nll50.json")["nll"] < summary["nll"]
    evaluate = ["--load", folder, "--evaluate"]
    refused(capsys, evaluate, "evaluation-nll3.json exists; .* or add --force", folder)
    refused(capsys, [*evaluate, "--force", "--out", folder / "summary.json"], "exists; choose another", folder)
    assert (folder / "summary.json").read_bytes() == before


def test_samples_and_reconstructions_are_png_files_and_a_sheet(folder):
    used(folder, "--sample", "12", "--seed", "3", "--out", "s")
    assert len([*Path("s").glob("[0-9]*.png")]) == 12
    sheet = np.asarray(Image.open("s/sheet.png"))[-2 * 198 :, -1980:].reshape(2, 198, 10, 198)[:, :192, :, :192]
    assert [(tile != 255).any() for row in sheet for tile in row.swapaxes(0, 1)] == [True] * 12 + [False] * 8
    model, first = load(folder), np.asarray(Image.open("s/00.png")) / 255
    np.testing.assert_allclose(first, model.sample(12, 3)[0, :, :, 0], atol=0.51 / 255)
    np.save("x.npy", DIGITS[:3].reshape(3, 8, 8))
    used(folder, "--reconstruct", "x.npy", "--out", "r")
    found = sorted(Path("r").rglob("*.png"))
    assert len(found) == 4
    second = np.asarray(Image.open(found[1])) / 255
    np.testing.assert_allclose(second, model.reconstruct(DIGITS)[1, :, :, 0], atol=0.51 / 255)


def test_interpolate_draws_both_images_and_the_line_between_them(folder):
    Image.fromarray(DIGITS[8].reshape(8, 8)).save("b.png")
    used(folder, "--interpolate", "test/3", "b.png")
    model, tiles = load(folder), np.asarray(Image.open(folder / "interpolated-test_3-to-b.png"))
    tiles = tiles[-198:-6:24, -1980:].reshape(8, 10, 198)[:, :, :192:24].swapaxes(0, 1)  # a pixel of each square
    expected = model.interpolate(DIGITS[3], DIGITS[8], 8)[..., 0]
    np.testing.assert_allclose(tiles[1:-1] / 255, expected, atol=0.51 / 255)
    assert (tiles[[0, -1]] == DIGITS[[3, 8]].reshape(2, 8, 8)).all()


USES = {
    "--load FOLDER --interpolate test/299 b.png": "test/299 is none of the run's test images, .* test/298",
    "--load FOLDER --interpolate test/0 digits": "digits holds 299 images; give one picture",
    "--load FOLDER --interpolate b.png nothing.png": "nothing.png",
    "--load FOLDER --interpolate b.png b.png --data digits": "--data is where the run's test images lie",
    "--load FOLDER --interpolate test/0 b.png --data mnist-10k": "mnist-10k are not those that the run in .* was",
    "--load FOLDER --interpolate test/1 b.png": "test/1 is a test image of the run and a file here: give ./test/1",
    "--load FOLDER --interpolate b.png": "--interpolate",
    "--load FOLDER": "--load DIR and one of --evaluate, --encode",
    "--sample 3": "--load DIR and one of",
    "--load FOLDER --sample 3 --evaluate": "one of",
    "--load FOLDER --sample 3 --epochs 3": "--epochs is not used by --load with --sample",
    "--load nowhere --sample 3": "nowhere holds no checkpoint.npz",
    "--load FOLDER --encode nothing": "nothing",
    "--load FOLDER --evaluate --data mnist-10k": r"\(28, 28, 1\), those of",
    "--data digits --init-from FOLDER --latent 5": "--latent 5 contradicts --init-from .*, which has --latent 4",
    "--data mnist-10k --init-from FOLDER": r"\(28, 28, 1\), those of --init-from .* \(8, 8, 1\)",
}


def test_a_use_that_makes_no_sense_gets_one_sentence(folder, capsys):
    Path("test").mkdir()
    for name in ("b.png", "test/1"):
        Image.fromarray(DIGITS[8].reshape(8, 8)).save(name, "PNG")
    for options, sentence in USES.items():
        refused(capsys, options.replace("FOLDER", str(folder)).split(), sentence)


def test_init_from_starts_at_the_trained_theta_and_lambda_with_its_network(folder, capsys):
    refused(capsys, ["--init-from", folder, "--hidden", "9", "--data", "nowhere"], "--hidden 9 contradicts --init-from")
    chosen = ["--init-from", folder, "--epochs", "1", "--nll-samples", "2"]
    made("tuned", *chosen, "--lr", "1e-30", "--multiplier-rate", "1e-30", quick=QUICK[:2])
    trained, tuned = load(folder), load("tuned")
    np.testing.assert_allclose(tuned.theta, trained.theta, rtol=1e-6)
    np.testing.assert_array_equal(tuned.network.whiten, trained.network.whiten)
    assert tuned.history[-1]["lambda"] == pytest.approx(trained.history[-1]["lambda"])
    assert (
        status(*QUICK[:2], *chosen) == 0
        and Path(f"runs/digits-geco-epochs1-nll-samples2-init-from-{folder.name}-0").is_dir()
    )


def test_watching_the_test_set_changes_no_weight(monkeypatch):
    watched, unwatched = [], {"rate": None, "error": None, "elbo": None}
    for look in (evaluation.look, lambda *_: unwatched):
        monkeypatch.setattr(evaluation, "look", look)
        model = fit(BOTH.train, epochs=2, hidden=(8,), latent=3, backend=NAME)
        watched.append((model.history[-1]["test_rate"] is not None, model.backend.to_host(model.theta).tolist()))
    assert watched == [(True, watched[0][1]), (False, watched[0][1])]


def test_what_is_watched_are_the_means_over_fixed_images_spread_over_the_test_set(monkeypatch):
    model = fit(BOTH.train, epochs=1, hidden=(8,), latent=3, method="iwae", backend=NAME)
    images = DIGITS[::3]
    monkeypatch.setattr(metrics, "DECODED", 5 * 40)  # forty images with five samples at once, and the rest
    found, scores = evaluation.look(model, images), model.scores(images, 1)
    assert len(images) % 40 and found == evaluation.look(model, images)
    for train, test, watched in ((99, 59, 59), (99, 2000, 100), (5000, 2000, 200), (50_000, 2000, 1000)):
        assert len(evaluation.watched(np.arange(test), train)) == watched
    assert found["rate"] == pytest.approx(scores["rate"].mean(), rel=1e-5)
    assert found["error"] == pytest.approx(scores["error"].mean(), rel=0.05)
    assert found["elbo"] == pytest.approx(scores["log_px"].mean() - found["rate"], abs=0.2)
    samples = []
    monkeypatch.setattr(metrics, "batch_means", lambda *what: samples.append(what[5]) or {})
    assert not evaluation.look(model, images) and samples == [5]
