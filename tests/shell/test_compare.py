"""Comparisons of finished runs: which runs they read, make and refuse; their tables, pictures and page."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import run
from data import load as load_data
from experiment import checkpoint, compare, defaults, options, page, pictures, tables
from experiment.model import load
from ref import vae
from ref.objectives import METHODS
from tests.tested import TESTED, on_command_line

TINY = ["--data", "digits", "--epochs", "1", "--hidden", "8", "--latent", "3", "--nll-samples", "2"]
QUICK = ["--method", "all", "--jobs", "1", *TINY]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder with a comparison of every method over two seeds."""
    out = tmp_path_factory.mktemp("all")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out)
        assert run.main([*QUICK, *on_command_line(), "--seeds", "2", "--out", "out"]) == 0
    return out / "out"


def contents(folder: Path) -> dict:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def summaries(out: Path, method: str) -> list[dict]:
    return [json.loads((out / f"{method}-{seed}" / "summary.json").read_text()) for seed in (0, 1)]


def comparison(out: Path) -> dict:
    """comparison.json, its rows by title and options."""
    result = json.loads((out / "comparison.json").read_text())
    return result | {"rows": {tables.named(row): row for row in result["rows"]}}


def compared_with(folders, out: Path, *more: str) -> int:
    return run.main(["--compare", *map(str, folders), *on_command_line(), "--out", str(out), *more])


def mirrored(source: Path, out: Path, coordinate: int) -> None:
    """The same trained function of another network: one principal direction and all that θ does to it have flipped."""
    shutil.copytree(source, out)
    arrays, config = checkpoint.read(out / "checkpoint.npz")
    arrays, history = {name: array.copy() for name, array in arrays.items()}, load(source).history
    config["options"]["lr"] *= 2  # so that it is another row
    params = vae.params_of(load(source).network, arrays["theta"])
    last = f"{len(config['options']['hidden'])}"
    for array in (params["encoder"]["W0"], params["encoder"]["linear"], params["decoder"]["linear"].T, arrays["color"]):
        array[coordinate] *= -1
    for array in (arrays["whiten"], params["decoder"]["W" + last]):
        array[:, coordinate] *= -1
    params["decoder"]["b" + last][coordinate] *= -1
    del arrays["history"]
    checkpoint.write(out / "checkpoint.npz", arrays, history, config)


def rows_of_sheet(path: Path, rows: int) -> np.ndarray:
    """The last rows of a sheet of 8×8 images, ten across, each enlarged twelve times."""
    pixels = np.asarray(Image.open(path))
    return pixels[-99 * rows :, -990:].reshape(rows, 99, 990)


def test_each_network_decodes_with_the_constants_of_its_own_checkpoint(tmp_path):
    source, other = tmp_path / "source", tmp_path / "other"
    assert run.main([*TINY, "--epochs", "20", *on_command_line(), "--out", str(source)]) == 0
    mirrored(source, other, 1)
    assert compared_with([source, other], tmp_path / "out") == 0
    for name in ("reconstructions.png", "generations.png"):
        images, one, same = rows_of_sheet(tmp_path / "out" / name, 3).astype(int)
        assert np.abs(one - same).max() <= 1 and np.abs(images - one).max() > 100


def test_all_leaves_the_comparison_and_a_run_for_each_method_and_seed(compared):
    folders = {path.parent.name for path in compared.rglob("summary.json")}
    assert folders == {f"{method}-{seed}" for method in METHODS for seed in (0, 1)}
    assert {path.name for path in compared.iterdir() if path.is_file()} == {*compare.COMPARISON_FILES}


def test_a_row_has_mean_and_standard_deviation_over_the_seeds(compared):
    result = comparison(compared)
    assert len(result["rows"]) == len(METHODS)
    for row in result["rows"].values():
        assert row["seeds"] == [0, 1]
        for key in (*tables.FIGURES, *tables.OTHERS):
            values, figure = [s[key] for s in summaries(compared, row["method"])], row["figures"][key]
            if None in values:
                assert figure is None
            else:
                assert figure["mean"] == pytest.approx(np.mean(values))
                assert figure["std"] == pytest.approx(np.std(values, ddof=1))
    images = load_data("digits")
    error = np.sum((images.test / 255 - images.train.mean(axis=0) / 255) ** 2, axis=1).mean()
    assert result["mean_image"] == {"rate": 0, "distortion": pytest.approx(error)}


def test_runs_with_other_options_are_rows_of_their_own_named_by_what_differs(compared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, *changes in (("k", "--kappa", "2.5"), ("w", "--latent", "5", "--seed", "7"), ("s", "--samples", "4")):
        assert run.main([*TINY, *on_command_line(), *changes, "--out", name]) == 0
    before = contents(compared) | contents(tmp_path)
    assert compared_with([compared, "k", "w", "s", "k", compared / "geco-0"], "out") == 0
    after = {path: content for path, content in (contents(compared) | contents(tmp_path)).items() if path in before}
    rows = {title: row for title, row in comparison(Path("out"))["rows"].items() if row["method"] == "geco"}
    assert after == before and {title: row["seeds"] for title, row in rows.items()} == {
        "GECO, --kappa 1.2 --latent 3": [0, 1],
        "GECO, --kappa 2.5 --latent 3": [0],
        "GECO, --kappa 1.2 --latent 5": [7],
        "GECO, --kappa 1.2 --samples 4 --latent 3": [0],
    }
    assert compared_with(["k"], "out") == 2 and compared_with(["k"], "out", "--force") == 0
    assert [*comparison(Path("out"))["rows"]] == ["GECO, --kappa 2.5"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["--binarize", "static"], "runs on different images"),
        (["--binarize", "dynamic"], "runs on different images"),
        (["--data", "sprites", "--epochs", "1", "--batch-size", "5000"], "runs on different images"),
    ],
)
def test_runs_on_different_images_are_refused_with_one_sentence(changes, sentence, compared, tmp_path, capsys):
    other = tmp_path / "other"
    config = json.loads((shutil.copytree(compared / "geco-0", other) / "config.json").read_text())
    arrays, _ = checkpoint.read(other / "checkpoint.npz")
    args = options.parser("").parse_args([*options.command_line(config["options"]), *changes])
    config["options"] = options.stored(args)
    config["images"] = config["images"] if "dynamic" in changes else "0" * 64
    history = load(compared / "geco-0").history
    checkpoint.write(other / "checkpoint.npz", {n: a for n, a in arrays.items() if n != "history"}, history, config)
    capsys.readouterr()
    assert compared_with([compared / "vae-0", other], tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert re.search(sentence, error) and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_images_that_have_changed_since_and_options_that_train_are_refused(compared, tmp_path, capsys):
    np.savez(tmp_path / "mine.npz", train=np.eye(64, dtype=np.float32), test=np.eye(64, dtype=np.float32))
    for more, sentence in (
        (["--data", str(tmp_path / "mine.npz")], "are not those that"),
        (["--lr", "0.1"], "--lr is not used by --compare"),
    ):
        assert compared_with([compared / "vae-0"], tmp_path / "out", *more) == 2
        assert sentence in capsys.readouterr().err
    assert compared_with([tmp_path], tmp_path / "out") == 2 and "holds no run" in capsys.readouterr().err
    assert compared_with([compared / "vae-0"], compared / "vae-1") == 2 and "holds a run" in capsys.readouterr().err


def test_the_same_command_reuses_every_run_goes_on_with_half_a_one_and_more_seeds_add_theirs(
    compared, tmp_path, monkeypatch
):
    out = shutil.copytree(compared, tmp_path / "out")
    runs = {path: content for path, content in contents(out).items() if path.parent != out}
    assert run.main([*QUICK, *on_command_line(), "--seeds", "2", "--out", str(out)]) == 0
    assert {path: content for path, content in contents(out).items() if path.parent != out} == runs
    before = json.loads((out / "geco-0" / "summary.json").read_text())
    (out / "geco-0" / "summary.json").unlink()
    made = {run.out.name: compare.command_of(run) for run in planned("--seeds", "3", out=out)}
    assert made["vae-1"] is None and made["geco-0"] == ["--resume", str(out / "geco-0")]
    assert {name for name, command in made.items() if command and "--resume" not in command} == {
        f"{method}-2" for method in METHODS
    }
    assert run.main([*QUICK, *on_command_line(), "--out", str(out)]) == 0
    assert json.loads((out / "geco-0" / "summary.json").read_text()) == before


def planned(*chosen: str, out) -> list:
    args = options.parser("").parse_args([*QUICK, *on_command_line(), "--out", str(out), *chosen])
    seeds = range(args.seed, args.seed + (args.seeds or 1))
    return [compare.options_of(args, load_data("digits"), method, seed) for seed in seeds for method in METHODS]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["--lr", "0.01"], "out/vae-0 holds a run made with --lr 0.001, and now --lr 0.01 is asked for"),
        (["--kappa", "1.3"], "out/geco-0 holds a run made with --kappa 1.2, and now --kappa 1.3"),
        (["--data", "sprites"], "out/vae-0 holds a run made with --(data|batch|hidden|lr)"),
    ],
)
def test_runs_of_other_options_are_left_alone_with_one_sentence(compared, changes, sentence, monkeypatch, capsys):
    monkeypatch.chdir(compared.parent)
    before = contents(compared)
    assert run.main([*QUICK, *on_command_line(), *changes, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert re.search(sentence, error) and error.count("\n") == 1 and "--force" in error
    assert contents(compared) == before


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("checkpoint.npz", None, "cannot be read"),
        ("checkpoint.npz", "not a checkpoint", "expected a checkpoint"),
        ("summary.json", "{", "cannot be read"),
        ("summary.json", '{"rate": 1}', "a run of another version, without active_units"),
    ],
)
def test_a_broken_run_is_refused_and_made_anew_with_force(name, content, sentence, compared, tmp_path):
    copy = shutil.copytree(compared, tmp_path / "out")
    (copy / "geco-0" / name).unlink()
    if content is not None:
        (copy / "geco-0" / name).write_text(content)
    member = next(run for run in planned(out=copy) if run.method == "geco")
    with pytest.raises(defaults.UsageError, match=f"geco-0.*{sentence}.*--force"):
        compare.command_of(member)
    forced = {run.method: compare.command_of(run) for run in planned("--force", out=copy)}
    assert forced["geco"][-1] == "--force" and [*map(bool, forced.values())].count(True) == 1  # whole ones are reused


def test_half_a_run_is_not_compared(compared, tmp_path, capsys):
    copy = shutil.copytree(compared / "geco-0", tmp_path / "half")
    (copy / "summary.json").unlink()
    assert compared_with([copy], tmp_path / "out") == 2
    assert f"go on with it by --resume {copy}" in capsys.readouterr().err


def test_all_leaves_a_folder_with_a_single_run_alone(compared, capsys):
    before = contents(compared / "vae-0")
    assert run.main([*QUICK, "--out", str(compared / "vae-0")]) == 2 and "a single run" in capsys.readouterr().err
    assert contents(compared / "vae-0") == before


def test_each_method_gets_the_options_that_it_takes():
    members = planned("--kappa=2", "--beta=3", "--samples=7", "--multiplier=plain", "--seed=4", out="x")
    by = {args.method: args for args in members}
    for name, args in by.items():
        method = METHODS[name]
        assert (args.kappa, args.beta) == (
            2 if "kappa" in method.options else None,
            3 if "beta" in method.options else None,
        )
        assert args.samples == (7 if method.samples > 1 else 1) and args.seed == 4
        assert args.multiplier == ("plain" if method.constrained else None)


def test_the_linear_bound_falls_from_the_total_variance_and_ends_where_the_known_variances_end(compared, monkeypatch):
    bound = np.array(comparison(compared)["linear_bound"])
    total = (load_data("digits").train / 255).var(axis=0).sum()
    assert bound[0] == pytest.approx([0, total], rel=1e-6, abs=1e-6) and bound[-1, 1] == pytest.approx(total / 100)
    assert (np.diff(bound, axis=0) * [1, -1] > 0).all()
    monkeypatch.setattr(compare.linear, "principal_variances", lambda *_: ([4.0, 2.0], 1.5))
    known = np.array(compare.linear_bound(TESTED, load_data("digits"), False))
    assert known[-1] == pytest.approx([0.5 * np.log(2), 2 + 2 + 1.5]) and known[0] == pytest.approx([0, 7.5])


def figure(mean: float, std=None) -> dict:
    return {"mean": mean, "std": std}


def result_of(data: str = "mnist", std=0.25) -> dict:
    """A comparison whose figures are 5, 6, 7, … in the order of the columns, the next row's 10 less in rate and more
    in all others, on the data set of that name.
    """
    rows, seeds = [], [0, 1] if std else [0]
    for i, (name, method) in enumerate(METHODS.items()):
        figures = {key: figure(5.0 + j + i, std) for j, key in enumerate((*tables.FIGURES, *tables.OTHERS))}
        figures |= {"mig": None, "rate": figure(90.0 - 10 * i, std)}
        kappa = 4.0 if method.constrained else None
        row = {"title": method.title, "options": {"kappa": 4.0} if kappa else {}, "method": name, "kappa": kappa}
        row |= {"seeds": seeds, "runs": [f"{name}-0"], "figures": figures}
        rows.append(row | {"slides": tables.SLIDES.get(data, {}).get(name)})
    shared = {"settings": "--lr=0.1", "versions": {"numpy": "2"}, "mean_image": {"rate": 0.0, "distortion": 52.7}}
    bound = [(0.0, 52.7), (40.0, 14.6)]
    return {"command": ["run.py"], "data": data, "test_images": 7, "rows": rows, "linear_bound": bound, **shared}


def test_the_slides_numbers_stand_beside_ours_on_mnist_and_cifar10_alone():
    lines = {row[0]: row[1:] for row in tables.slides_table(result_of("mnist"))}
    assert lines["GECO, --kappa 4.0"] == ["70.0000 ± 0.2500", "10.4975", "9.0000 ± 0.2500", "14.6269"]
    assert lines["IWAE"][1::2] == ["–", "–"]
    lines = {row[0]: row[1:] for row in tables.slides_table(result_of("cifar10", None))}
    assert lines["GECO, --kappa 4.0"][:2] == ["70.0000", "383.0849"]
    headings = {data: [c for kind, c in tables.report(result_of(data)) if kind == "heading"] for data in ("mnist", "x")}
    assert [*map(len, headings.values())] == [2, 1] and "slides" not in page.markdown(tables.report(result_of("x")))


def test_counts_are_whole_numbers_and_figures_that_nobody_has_no_column():
    columns, first, *_ = tables.figures_table(result_of("x", None))
    assert first[columns.index("active units")] == "12" and first[columns.index("seconds")] == "15"
    assert "MIG" not in columns and first[columns.index("seeds")] == "0"
    columns, first, *_ = tables.figures_table(result_of("x"))
    assert first[columns.index("active units")] == "12.0 ± 0.2" and first[columns.index("seeds")] == "0, 1"


def row_with(title: str, rate=1.0, distortion=1.0, nll=9.0, constraint=None, **told) -> dict:
    figures = {"rate": rate, "distortion": distortion, "nll": nll, "nll_standard_error": 0.5, "constraint": constraint}
    kappa = None if constraint is None else 2.0
    return {"title": title, "options": told, "kappa": kappa, "figures": {k: figure(v) for k, v in figures.items()}}


def test_the_verdict_names_the_best_likelihood_who_is_beaten_and_whose_constraint_holds():
    a, b = row_with("A", 1, 3, 9, constraint=0.1), row_with("B", 2, 2, 8, constraint=0.3)
    best, trade, holds, broken = tables.verdict([a, b])
    assert "B has the lowest NLL, 8.00 ± 0.50" in best and "A follows at 1.00 nats." in best
    assert "No run beats another" in trade
    assert "holds" in holds and "A (+2.5%)" in holds and "broken" in broken and "B (+7.5%)" in broken
    best, beaten = tables.verdict([row_with("A", 1, 1, 8.4), row_with("B", 2, 2, 8)])
    assert "within that error" in best and beaten == "Beaten in both rate and distortion: B (by A)."
    incomparable, _ = tables.verdict([row_with("A", likelihood="gaussian"), row_with("B", likelihood="bernoulli")])
    assert incomparable == "The likelihoods are not comparable: the runs differ in --likelihood."


def test_the_markdown_is_tables_whose_rows_have_their_columns(compared):
    text = (compared / "comparison.md").read_text()
    rows = [re.split(r"(?<!\\)\|", line) for line in text.splitlines() if line.startswith("|")]
    assert len({*map(len, rows)}) == 1 and len(rows) == 3 + len(METHODS)
    assert "log N = 5.70" in text and "--latent=3" in text and "numpy" in text


class Page(HTMLParser):
    """What a page holds: its tags, and the sources of its images."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.sources, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_holds_every_picture_and_needs_nothing_else(compared):
    text = (compared / "report.html").read_text()
    found = Page(text)
    assert found.open == [] and not {"script", "link", "iframe"} & {*found.tags} and "http" not in text
    prefix = "data:image/png;base64,"
    pngs = {base64.b64decode(source.removeprefix(prefix), validate=True) for source in found.sources}
    assert all(Image.open(io.BytesIO(png)).size[0] > 100 for png in pngs)
    ours = [compared / name for name in tables.COMPARED]
    ours += [compared / f"{method}-0" / name for method in METHODS for name in tables.SINGLE]
    assert pngs == {path.read_bytes() for path in ours}


def test_the_page_escapes_what_it_is_given():
    assert "<td>&lt;b&gt;</td>" in page.table([["a"], ["<b>"]])


def test_a_sheet_enlarges_by_whole_numbers_fits_a_page_and_has_room_for_its_names():
    ramp = np.linspace(0, 1, 64).reshape(1, 8, 8, 1).repeat(10, axis=0)
    sheet = np.asarray(pictures.sheet([("low", 0.5 * ramp), ("full", ramp), ("over", 2 * ramp)], ["a"] * 10))
    tiles = sheet[-99 * 3 :, -990:].reshape(3, 99, 10, 99)[:, :96, :, :96]
    expected = np.rint(255 * np.minimum(np.multiply.outer([0.5, 1, 2], ramp[0, ..., 0]), 1))
    assert (tiles == expected.repeat(12, axis=1).repeat(12, axis=2)[:, :, None]).all()
    assert (sheet[-99 * 3 :, :-993] < 128).any() and (sheet[: -99 * 3 - 3, -990:] < 128).any()
    for side in (8, 28, 32, 64, 128, 300):
        shape = (side, side, 3)
        wide = pictures.sheet([("a name", np.zeros((pictures.across(shape, 10), *shape)))]).width
        assert 500 < wide < 1300


class Identity:
    """A model of 2×2 images whose latents are their pixels, the second with a posterior twice as wide."""

    shape, std = (2, 2, 1), np.array([0.1, 0.2, 0.1, 0.1])

    def pixels(self, images):
        return images

    def encode(self, images):
        return images / 255, np.broadcast_to(self.std, images.shape)

    def decode(self, z):
        return z.reshape(-1, *self.shape)


def test_the_rows_of_a_runs_pictures_are_what_their_names_say(tmp_path, monkeypatch):
    sheets, rng = [], np.random.default_rng(0)
    images = (rng.uniform(size=(400, 4)) * [200, 50, 255, 10]).astype(np.uint8)
    monkeypatch.setattr(
        pictures, "sheet", lambda rows, columns=(): sheets.append((rows, columns)) or Image.new("L", (1, 1))
    )
    data = load_data("digits")._replace(test=images, shape=(2, 2, 1), labels=(None, np.arange(400) % 3), classes="abc")
    pictures.draw_pictures(tmp_path, Identity(), data)
    (reconstructions, names), (samples, _), (between, steps), (traversals, reach) = sheets
    first, x = images[:10] / 255, images / 255
    rows = {name: row.reshape(-1, 4) for name, row in reconstructions}
    assert [*rows] == ["original", "at the mean", "a sample"] and "".join(names) == "abcabcabca"
    assert (rows["original"] == first).all() and (rows["at the mean"] == first).all()
    apart = (rows["a sample"] - first) / Identity.std
    assert 0.6 < apart.std() < 1.4 and abs(apart.mean()) < 0.5
    drawn = {
        which: np.concatenate([r.reshape(-1, 4) for name, r in samples if which in name]) for which in ("p(z)", "q(z)")
    }
    assert drawn["p(z)"].shape == (50, 4) and np.abs(drawn["p(z)"].std(axis=0) - 1).max() < 0.4
    wide = np.sqrt(x.var(axis=0) + Identity.std**2)
    np.testing.assert_allclose(drawn["q(z)"].std(axis=0), wide, rtol=0.4)
    assert between[0][0] == "a → b" and steps[0] == steps[-1] == "original" and steps[1] == "0%"
    line = between[0][1].reshape(-1, 4)
    np.testing.assert_allclose(line[[0, 1]], first[[0, 0]])
    np.testing.assert_allclose(line[[-2, -1]], first[[1, 1]])
    np.testing.assert_allclose(np.diff(line[1:-1], axis=0), (first[[1]] - first[[0]]).repeat(7, axis=0) / 7)
    order = [2, 0, 1, 3]  # by the variance of the means
    assert [name.split("\n")[0] for name, _ in traversals] == [f"latent {i}" for i in order]
    assert float(traversals[0][0].split()[-1]) == pytest.approx(x[:, 2].var(), abs=0.005)
    assert reach[0] == "−2.5" and reach[-1] == "2.5"
    for latent, (_, row) in zip(order, traversals, strict=True):
        expected = first[[0]].repeat(10, axis=0)
        expected[:, latent] = np.linspace(-2.5, 2.5, 10)
        np.testing.assert_allclose(row.reshape(-1, 4), expected)


def test_the_plane_of_the_means_is_that_of_their_covariances_leading_eigenvectors():
    means = np.random.default_rng(0).normal(size=(50, 4)) * [1, 3, 0.5, 2] + 7
    values, vectors = np.linalg.eigh(np.cov(means.T))
    plane, share = pictures.principal_plane(means)
    expected = (means - means.mean(axis=0)) @ vectors[:, [3, 2]]
    np.testing.assert_allclose(np.abs(plane), np.abs(expected), atol=1e-10)
    np.testing.assert_allclose(share, values[[3, 2]] / values.sum())
    plane, share = pictures.principal_plane(means[:, :1])
    assert share == pytest.approx([1, 0]) and plane[:, 1] == pytest.approx(np.zeros(50))


def test_matplotlib_is_imported_only_where_something_is_drawn():
    code = "import sys, run; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(run.__file__).parent).returncode == 0
