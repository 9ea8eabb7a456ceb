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
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import run
from data import load as load_data
from experiment import checkpoint, compare, defaults, options, pictures, report, results
from experiment.model import load
from ref import vae
from ref.objectives import METHODS
from tests.shell.undrawn import undrawn
from tests.tested import TESTED, on_command_line

TINY = ["--data", "digits", "--epochs", "1", "--hidden", "8", "--latent", "3", "--nll-samples", "2"]
QUICK = ["--method", "all", "--jobs", "1", *TINY]


@pytest.fixture(autouse=True)
def pictures_of_runs(monkeypatch):
    undrawn(monkeypatch)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder with a comparison of every method over two seeds."""
    out = tmp_path_factory.mktemp("all")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out)
        undrawn(patch)
        assert run.main([*QUICK, *on_command_line(), "--seeds", "2", "--out", "out"]) == 0
    return out / "out"


def contents(folder: Path) -> dict:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def summaries(out: Path, method: str) -> list[dict]:
    return [json.loads((out / f"{method}-{seed}" / "summary.json").read_text()) for seed in (0, 1)]


def comparison(out: Path) -> dict:
    """comparison.json, its rows by name."""
    result = json.loads((out / "comparison.json").read_text())
    return result | {"rows": {row["name"]: row for row in result["rows"]}}


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
        for key in results.COLUMNS:
            values, figure = [s.get(key) for s in summaries(compared, row["method"])], row["figures"][key]
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
    args = options.parsed([*options.command_line(config["options"]), *changes])[0]
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
    args = options.parsed([*QUICK, *on_command_line(), "--out", str(out), *chosen])[0]
    seeds = range(args.seed, args.seed + (args.seeds or 1))
    return [compare.options_of(args, load_data("digits"), method, seed) for seed in seeds for method in METHODS]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["--lr", "0.01"], "--lr 0.01 contradicts the run in out/vae-0, which has --lr 0.001; .* choose another --out"),
        (["--kappa", "1.3"], "--kappa 1.3 contradicts the run in out/geco-0, which has --kappa 1.2"),
        (["--data", "sprites"], "contradicts the run in out/vae-0, which has --[a-z-]+"),
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
        ("checkpoint.npz", None, "holds no checkpoint.npz"),
        ("checkpoint.npz", "not a checkpoint", "expected a checkpoint"),
        ("summary.json", "{", "cannot be read"),
        ("summary.json", '{"rate": 1}', "a run of another version, without distortion"),
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


def test_a_cell_is_mean_and_spread_counts_are_whole_and_figures_that_nobody_has_no_column():
    runs = [{"rate": 1.0, "active_units": 3}, {"rate": 2.0, "active_units": 4}]
    one, both = results.figures_of(runs[:1]), results.figures_of(runs)
    header, *lines = results.table({"one": one, "both": both, "none": results.figures_of([{}])})
    assert header == ["", "rate", "active"]
    assert lines == [["one", "1.00", "3"], ["both", "1.50 ± 0.71", "3.5 ± 0.7"], ["none", "–", "–"]]


def test_the_slides_numbers_stand_beside_ours_on_mnist_and_cifar10_alone():
    args = {"method": "geco", "samples": 1, "kappa": 4.0, "seed": 0}

    def line(data: str) -> dict[str, list[str]]:
        run = compare.Finished(
            Path("x"), SimpleNamespace(**args, data=data), {}, {"rate": 9.0, "distortion_at_mean": 8.0}
        )
        header, cells = results.table({"geco": compare.row_of([run], set())["figures"]})
        return [*zip(header, cells, strict=True)][1:]

    published = {"mnist": (10.4975, 14.6269), "cifar10": (383.0849, 11.4413)}
    for data, (rate, error) in published.items():
        assert line(data) == [
            *(("rate", "9.00"), ("slides", f"{rate:.2f}"), ("error at the mean", "8.000"), ("slides", f"{error:.2f}"))
        ]
    assert line("digits") == [("rate", "9.00"), ("error at the mean", "8.000")]


def test_what_is_printed_is_a_table_whose_rows_have_their_columns(compared):
    lines = report.lines_of(json.loads((compared / "comparison.json").read_text()))
    assert len({len(line) for line in lines}) == 1 and len(lines) == 2 + len(METHODS)  # a header and the mean image


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
    ours = [compared / name for name in report.COMPARED]
    ours += [compared / f"{method}-0" / name for method in METHODS for name in report.SINGLE]
    assert pngs == {path.read_bytes() for path in ours}
    assert "--latent=3" in text and "numpy" in text and text.count("<tr>") == 2 + len(METHODS)


def test_the_page_escapes_what_it_is_given(compared):
    result = json.loads((compared / "comparison.json").read_text())
    rows = [result["rows"][0] | {"name": "<i>"}, *result["rows"][1:]]
    text = report.page(result | {"data": "<b>", "rows": rows}, compared)
    assert "&lt;b&gt;" in text and "<td>&lt;i&gt;</td>" in text and not {"b", "i"} & {*Page(text).tags}


def test_a_sheet_enlarges_by_whole_numbers_fits_a_page_and_has_room_for_its_names():
    ramp = np.linspace(0, 1, 64).reshape(1, 8, 8, 1).repeat(10, axis=0)
    sheet = np.asarray(pictures.sheet([("low", 0.5 * ramp), ("full", ramp), ("over", 2 * ramp)], ["a"] * 10))
    tiles = sheet[-99 * 3 :, -990:].reshape(3, 99, 10, 99)[:, :96, :, :96]
    expected = np.rint(255 * np.minimum(np.multiply.outer([0.5, 1, 2], ramp[0, ..., 0]), 1))
    assert (tiles == expected.repeat(12, axis=1).repeat(12, axis=2)[:, :, None]).all()
    assert (sheet[-99 * 3 :, :-990] < 128).any() and (sheet[: -99 * 3, -990:] < 128).any()
    colours = np.asarray(pictures.sheet([("", np.linspace(0, 1, 36).reshape(2, 2, 3, 3))]))
    assert (colours[-67:-3:32, -99:-3:32] == np.rint(255 * np.linspace(0, 1, 36)[18:]).reshape(2, 3, 3)).all()
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
    data = load_data("digits")._replace(
        test=images, shape=(2, 2, 1), labels=(None, np.arange(400) // 134), classes="abc"
    )
    pictures.draw_pictures(tmp_path, Identity(), data)
    (reconstructions, names), (samples, _), (traversals, reach) = sheets
    spread, x = images[np.linspace(0, 399, 10).astype(int)] / 255, images / 255
    rows = {name: row.reshape(-1, 4) for name, row in reconstructions}
    assert [*rows] == ["original", "at the mean", "a sample"] and "".join(names) == "aaaabbbccc"
    assert (rows["original"] == spread).all() and (rows["at the mean"] == spread).all()
    apart = (rows["a sample"] - spread) / Identity.std
    assert 0.6 < apart.std() < 1.4 and abs(apart.mean()) < 0.5
    drawn = {
        which: np.concatenate([r.reshape(-1, 4) for name, r in samples if which in name]) for which in ("p(z)", "q(z)")
    }
    assert drawn["p(z)"].shape == (50, 4) and np.abs(drawn["p(z)"].std(axis=0) - 1).max() < 0.4
    wide = np.sqrt(x.var(axis=0) + Identity.std**2)
    np.testing.assert_allclose(drawn["q(z)"].std(axis=0), wide, rtol=0.4)
    order = [2, 0, 1, 3]  # by the variance of the means
    assert [name.split("\n")[0] for name, _ in traversals] == [f"latent {i}" for i in order]
    assert float(traversals[0][0].split()[-1]) == pytest.approx(x[:, 2].var(), abs=0.005)
    assert reach[0] == "−2.5" and reach[-1] == "2.5"
    for latent, (_, row) in zip(order, traversals, strict=True):
        expected = spread[[0]].repeat(10, axis=0)
        expected[:, latent] = np.linspace(-2.5, 2.5, 10)
        np.testing.assert_allclose(row.reshape(-1, 4), expected)


def test_a_name_longer_than_its_image_is_shown_whole():
    """Above images of 64 pixels the names have as much ink as above images where there is room for each in one line."""

    def ink(side: int, names: list[str]) -> int:
        sheet = 255 - np.asarray(pictures.sheet([("", np.zeros((3, side, side, 1)))], names)).astype(int)
        return sheet[: -side - 3].sum()

    names = ["golden_retriever", "bottlenose_dolphin", "a very small dog"]
    whole = ink(300, names)
    assert ink(64, names) == pytest.approx(whole, rel=0.03)
    assert ink(64, ["golden_retri", *names[1:]]) < 0.95 * whole


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
