"""The pictures of a run: which images and latents they show, where, and what is written beside them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data import load as load_data
from experiment import pictures

RNG = np.random.default_rng(0)
SIDE, WIDE = 192, 198  # pixels of an image of 8×8 on a sheet, and with the gap beside it


def test_a_sheet_enlarges_by_whole_numbers_fits_a_page_and_has_room_for_its_names():
    ramp = np.linspace(0, 1, 64).reshape(1, 8, 8, 1).repeat(10, axis=0)
    sheet = np.asarray(pictures.sheet([("low", 0.5 * ramp), ("full", ramp), ("over", 2 * ramp)], ["a"] * 10))
    tiles = sheet[-WIDE * 3 :, -WIDE * 10 :].reshape(3, WIDE, 10, WIDE)[:, :SIDE, :, :SIDE]
    expected = np.rint(255 * np.minimum(np.multiply.outer([0.5, 1, 2], ramp[0, ..., 0]), 1))
    assert (tiles == expected.repeat(24, axis=1).repeat(24, axis=2)[:, :, None]).all()
    assert (sheet[-WIDE * 3 :, : -WIDE * 10] < 128).any()
    assert (sheet[: -WIDE * 3, -WIDE * 10 :] < 128).any()
    colours = np.asarray(pictures.sheet([("", np.linspace(0, 1, 36).reshape(2, 2, 3, 3))]))
    assert (colours[-134:-6:64, -198:-6:64] == np.rint(255 * np.linspace(0, 1, 36)[18:]).reshape(2, 3, 3)).all()
    for side in (8, 28, 32, 64, 128, 300):
        shape = (side, side, 3)
        for many in (pictures.across(shape), pictures.STEPS + 2):
            assert 1000 < pictures.sheet([("a name", np.zeros((many, *shape)))]).width < (2800 if side < 300 else 3200)


def test_what_stands_below_an_image_covers_neither_it_nor_the_next_row():
    rows = [("a", np.ones((2, 8, 8, 1)), ["88.8", ""]), ("b", np.zeros((2, 8, 8, 1)))]
    sheet = np.asarray(pictures.sheet(rows))[:, -2 * WIDE :]
    dark = np.flatnonzero((sheet[:, :WIDE] < 128).any(axis=1))
    text, second = dark[dark < len(sheet) - WIDE], dark[dark >= len(sheet) - WIDE]
    assert len(second) == SIDE and len(text) > 10 and (sheet[text, WIDE:] == 255).all()
    bars = np.asarray(pictures.sheet([("a\nb", np.zeros((4, 1, 30, 1)))] * 2))  # images of one line
    assert (bars[:, -10] == 0).sum() >= 80 and bars.shape[0] > 130


def test_a_sheet_of_25_images_has_25_and_the_last_row_is_filled_with_white():
    rows = pictures.in_rows(np.arange(25).repeat(4).reshape(25, 2, 2, 1) / 25, 10)
    assert [name for name, _ in rows] == [""] * 3
    np.testing.assert_array_equal(np.concatenate([row[:, 0, 0, 0] for _, row in rows]), np.arange(25) / 25)
    last = np.asarray(pictures.sheet(rows))[-198:, -1980:].reshape(198, 10, 198)  # images of 192 pixels, and a gap
    assert last[0, :, 0].tolist() == [204, 214, 224, 235, 245] + [255] * 5
    assert (last[:, 5:] == 255).all()


class Identity:
    """A model of 2×2 images whose latents are their pixels; the last latent has the prior for a posterior."""

    shape, std = (2, 2, 1), np.array([0.1, 0.2, 0.1, 1.0])

    def pixels(self, images):
        return images

    def encode(self, images):
        return images / 255 * (self.std < 1), np.broadcast_to(self.std, images.shape)

    def decode(self, z):
        return z.reshape(-1, *self.shape)


def drawn(monkeypatch, labels, test, folder: Path) -> dict[str, tuple]:
    """The rows, the columns and the title of each sheet that a run of Identity draws, by their order."""
    found, data = [], load_data("digits")._replace(test=test, shape=(2, 2, 1), labels=labels, classes="abc")
    empty = Image.new("L", (1, 1))
    monkeypatch.setattr(pictures, "sheet", lambda rows, columns=(), title="": found.append((rows, columns)) or empty)
    pictures.draw_pictures(folder, Identity(), data)
    return dict(zip(("reconstructions", "worst", "samples", "traversals", "interpolations"), found, strict=True))


def test_the_rows_of_a_runs_pictures_are_what_their_names_say(tmp_path, monkeypatch):
    images = (RNG.uniform(size=(400, 4)) * [200, 50, 255, 100]).astype(np.uint8)
    sheets = drawn(monkeypatch, (None, np.arange(400) // 134), images, tmp_path)
    x, places = images / 255, [0, 1, 2, 3, 134, 135, 136, 268, 269, 270]
    rows, names = sheets["reconstructions"]
    assert names == [f"{'aaaabbbccc'[i]}\ntest/{place}" for i, place in enumerate(places)]
    by_name = {name: row.reshape(-1, 4) for name, row, *_ in rows}
    np.testing.assert_allclose(by_name["original"], x[places], rtol=1e-6)
    np.testing.assert_allclose(by_name["at the mean"], x[places] * [1, 1, 1, 0], rtol=1e-6)
    apart = (by_name["a sample"] - by_name["at the mean"]) / Identity.std
    assert 0.6 < apart.std() < 1.4 and abs(apart.mean()) < 0.5
    assert [float(text) for text in rows[1][2]] == pytest.approx(x[places, 3] ** 2, rel=6e-3)
    (_, (_, _, errors)), names = sheets["worst"]
    worst, largest = [int(name.split("/")[1]) for name in names], np.sort(x[:, 3])[:-11:-1]  # the last pixel is lost
    assert len({*worst}) == 10 and x[worst, 3].tolist() == largest.tolist()
    assert [float(text) for text in errors] == pytest.approx(largest**2, rel=6e-3)
    for which, wide in (("p(z)", np.ones(4)), ("q(z)", np.sqrt(x.var(axis=0) * [1, 1, 1, 0] + Identity.std**2))):
        z = np.concatenate([row.reshape(-1, 4) for name, row in sheets["samples"][0] if which in name])
        assert z.shape == (50, 4)
        np.testing.assert_allclose(z.std(axis=0), wide, rtol=0.4)
    pairs = [(0, 135), (1, 136), (2, 268), (3, 269), (134, 270)]
    for (first, last), (name, row) in zip(pairs, sheets["interpolations"][0], strict=True):
        assert name == f"test/{first}\nto test/{last}"
        np.testing.assert_allclose(row[[0, -1]].reshape(2, 4), x[[first, last]], rtol=1e-6)
        between = np.linspace(x[first], x[last], 8) * [1, 1, 1, 0]
        np.testing.assert_allclose(row[1:-1].reshape(8, 4), between, rtol=1e-6)
    sheets = drawn(monkeypatch, (None, np.arange(400) // 399), images, tmp_path)  # a single image of the second class
    assert [name for name, _ in sheets["interpolations"][0]] == ["test/4\nto test/399"]


@pytest.mark.parametrize(("spread", "order"), [([100, 250, 120], [2, 0, 1]), ([0, 0, 90], [2]), ([0, 0, 0], [0])])
def test_a_traversal_shows_active_latents_by_their_rate_about_0(spread, order, tmp_path, monkeypatch):
    """The second latent varies most, at the least rate. Where none is active the first is shown."""
    images = (RNG.uniform(size=(300, 4)) * [*spread, 9]).astype(np.uint8)
    rows, reach = drawn(monkeypatch, None, images, tmp_path)["traversals"]
    m, s = images / 255, Identity.std
    rates = np.mean((m**2 + s**2 - 1) / 2 - np.log(s), axis=0)
    assert [name for name, _ in rows] == [f"latent {i}\n{rates[i]:.2f} nats" for i in order]
    assert (reach[0], reach[-1]) == ("−2.5", "2.5")
    for latent, (_, row) in zip(order, rows, strict=True):
        np.testing.assert_allclose(row.reshape(10, 4), np.outer(np.linspace(-2.5, 2.5, 10), np.eye(4)[latent]))


def test_one_test_image_an_image_without_a_code_and_one_latent_are_drawn(tmp_path, monkeypatch):
    sheets = drawn(monkeypatch, None, np.full((1, 4), 90, np.uint8), tmp_path)
    assert [name for name, _ in sheets["interpolations"][0]] == ["test/0\nto test/0"]
    test = np.array([[0] * 4, [90] * 4, [180] * 4], np.uint8)
    monkeypatch.setattr(Identity, "encode", lambda self, x: (np.where(x == 180, np.nan, x / 255), np.ones(x.shape)))
    rows, names = drawn(monkeypatch, None, test, tmp_path)["worst"]
    assert names[0] == "test/2" and (rows[1][1][0] == 0).all()  # decoded at z = 0
    monkeypatch.setattr(Identity, "decode", lambda self, z: np.where(z == 90 / 255, np.nan, z).reshape(-1, 2, 2, 1))
    assert drawn(monkeypatch, None, test, tmp_path)["worst"][1][0] == "test/1"
    pictures.draw_latents(tmp_path / "one.png", np.arange(5.0)[:, None], load_data("digits")._replace(labels=None))
    assert Image.open(tmp_path / "one.png").size == (1500, 1200)


@pytest.mark.parametrize("kinds", [1, 2, 3, 10, 50])
def test_the_images_shown_are_of_as_many_classes_as_there_are(kinds):
    labels = RNG.permutation(np.arange(500) % kinds)
    data = SimpleNamespace(test=np.zeros((500, 1)), labels=(None, labels))
    places = pictures.chosen(data, 10)
    assert len({*places}) == 10 and len({*labels[places]}) == min(kinds, 10)
    assert (np.diff(labels[places]) >= 0).all()
    assert np.unique(labels[places], return_counts=True)[1].max() == -(-10 // min(kinds, 10))
    assert kinds < 50 or labels[places].tolist() == [0, 5, 10, 16, 21, 27, 32, 38, 43, 49]
    data.labels = None
    assert pictures.chosen(data, 3).tolist() == [0, 249, 499]


def test_a_name_longer_than_its_image_is_shown_whole():
    """Above images of 64 pixels the names have as much ink as above images where there is room for each in one line."""

    def ink(side: int, names: list[str]) -> int:
        sheet = 255 - np.asarray(pictures.sheet([("", np.zeros((3, side, side, 1)))], names)).astype(int)
        return sheet[: -2 * side - 6].sum()

    names = ["golden_retriever", "bottlenose_dolphin", "a very small dog"]
    whole = ink(300, names)
    assert ink(64, names) == pytest.approx(whole, rel=0.03)
    assert ink(64, ["golden_retri", *names[1:]]) < 0.95 * whole


def test_a_logarithmic_axis_reads_in_decimals():
    for values in ([9.2, 11.1, 9.25], [0.07, 1.0, 4.71], [2.0, 2.0, 2.0]):
        _, (axes,) = pictures.plot(3, 3)
        axes.plot(values)
        axes.set_yscale("log")
        pictures.decimal(axes.yaxis)
        low, high = axes.get_ylim()
        ticks = [value for value in axes.get_yticks() if low <= value <= high]
        labels = [axes.yaxis.get_major_formatter()(value, 0) for value in ticks]
        assert len(ticks) >= 2 and [float(label) for label in labels] == pytest.approx(ticks)
        assert not any("e" in label or "$" in label for label in labels)


def test_an_axis_of_rates_is_logarithmic_where_a_rate_would_press_the_others_together():
    assert pictures.limits([8.0, 10.0, 30.0]) == pytest.approx((-0.9, 34.5))
    assert pictures.limits([8.0, 10.0, 110.0]) == pytest.approx((8 / 1.5, 165))
    assert pictures.limits([0.0, 0.0, 1.0])[0] > 0  # of a logarithm
