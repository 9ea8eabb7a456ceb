"""What people have on their disks: read right, or refused with what to do."""

import contextlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import data
from data import DataError, folders, images, images_at, load, npz
from data.dataset import DARK, file_names, floats, held_out, safe_name
from tests.shell.test_data import encoded, holds, idx_bytes, in_turn, lay, levels, opened, pixels, put, refused, refuses
from tests.shell.test_data import save_pictures as save

pytestmark = pytest.mark.usefixtures("elsewhere")


def entrances(x: np.ndarray) -> dict:
    """Every way in for the images (N, H, W): name -> a function that returns rows, in any order."""
    np.save("a.npy", x)
    np.savez("a.npz", train=x[:-1], test=x[-1:])
    ways = {
        "npy": lambda: load("a.npy").population,
        "pair": lambda: load("a.npz").population,
        "fit": lambda: npz.dataset("fit", "fit", {"images": x}).population,
        "rows": lambda: npz.rows("x", x, (*x.shape[1:], 1)),
        "encode": lambda: images_at("a.npy", (*x.shape[1:], 1))[0],
    }
    if x.dtype == np.uint8:
        save("png", *x)
        ways["png"] = lambda: load("png").population
        ways["encode png"] = lambda: images_at("png", (*x.shape[1:], 1))[0]
        parts = {"train": x[:-1], "t10k": x[-1:]}
        put({f"{name}-images-idx3-ubyte": idx_bytes(part) for name, part in parts.items()}, "idx")
        ways["idx"] = lambda: load("idx").population
    return ways


@pytest.mark.parametrize(("top", "count"), [(1, 2), (1, 40), (16, 40), (DARK - 1, 11)])
def test_bytes_that_are_masks_or_counts_are_refused_at_every_entrance(top, count):
    x = (np.arange(count * 15) % (top + 1)).astype(np.uint8).reshape(count, 3, 5)
    for way, read in entrances(x).items():
        with refused(f"above {top};", "booleans", "255", "floats"):
            pytest.fail(f"{way}: {read()}")


@pytest.mark.parametrize(("top", "count"), [(True, 10), (255, 10), (DARK, 10), (0, 10), (2, 9)])
def test_black_and_white_and_dark_images_are_read_at_every_entrance(top, count):
    mask = np.arange(15 * count).reshape(count, 3, 5) % 3 == 0
    expected = sorted((mask * (255 if top is True else top)).reshape(count, -1).tolist())
    for way, read in entrances(mask if top is True else mask * np.uint8(top)).items():
        assert sorted(read().tolist()) == expected and read().dtype == np.uint8, way


def test_floats_off_by_a_rounding_are_clipped_and_tiny_ones_are_kept():
    for off, dtype in ((1 + 2e-16, "f8"), (1 + 1e-7, "f4"), (1 + 1e-7, "f8"), (1.0009765625, "f2")):
        x = np.array([[0.25, off], [0, 0.5]], dtype)
        assert x.max() > 1 and npz.rows("x", x, (1, 2, 1)).tolist() == [[0.25, 1], [0, 0.5]]
    assert npz.rows("x", np.array([[-1e-17, 1.0]]), (1, 2, 1)).tolist() == [[0, 1]]
    tiny = np.array([[1e-25, 3e-25]] * 3)
    assert np.array_equal(npz.rows("x", tiny, (1, 2, 1)), tiny.astype(np.float32))
    for bad, words in ((-tiny, "-3e-25"), (tiny + 1.00001, "1.00001"), (255 * OK, "255"), (OK * np.inf, "inf")):
        with refused("x must lie in .0, 1.", words):
            npz.rows("x", bad, (1, 2, 1))
    with refused("2 NaN", r"index \(1, 0\)"):
        npz.rows("x", np.array([[0, 1], [np.nan, np.nan]]), (1, 2, 1))
    assert floats(np.array([0, 51, 255], np.uint8)).tolist() == [0, np.float32(0.2), 1]
    assert floats(np.array([0.1]), np.float64).tolist() == [0.1] and floats(np.array([0.1])).dtype == np.float32


OK = np.ones((3, 2))


def test_arrays_that_are_no_images_are_refused_unless_their_shape_is_known():
    for array, words in (
        (np.zeros((64, 64, 3), np.uint8), r"\(64, 64, 3\), which is one picture"),
        (np.ma.masked_greater(OK * [[0], [1], [1]], 0.5), "4 masked"),
        ([[0.5], [0.5, 0.5]], "no array"),
    ):
        with refused("fit: images", words):
            npz.dataset("fit", "fit", {"images": array})
    assert npz.rows("x", np.ma.masked_array(OK), (1, 2, 1)).tolist() == OK.tolist()
    assert npz.dataset("fit", "fit", {"images": np.ones((9, 8, 3))}, shape=(8, 3, 1)).shape == (8, 3, 1)
    assert npz.dataset("fit", "fit", {"images": np.ones((400, 5, 4))}).shape == (5, 4, 1)


def test_a_model_of_vectors_takes_no_photographs():
    folder = save("photos", *pixels(3, 20, 30))
    with refused("photos", r"vectors of shape \(1, 200, 1\)", r"\(20, 30, 1\)"):
        images_at(folder, (1, 200, 1))
    strips = save("strips", *pixels(3, 1, 200))
    assert images_at(strips, (1, 200, 1))[0].shape == (3, 200)


def test_a_shuffled_split_is_a_tenth_of_each_class_drawn_by_a_fixed_seed():
    turn = np.arange(200) % 10
    test, rule = held_out(200, "shuffled", turn)
    assert np.bincount(turn[test]).tolist() == [2] * 10 and "fixed seed from the classes in proportion" in rule
    labels = npz.dataset("fit", "fit", {"images": pixels(200, 4)}, [turn]).labels
    names = [f"{i % 10}/{i:03}.png" for i in range(200)]
    _, tested, _, _ = folders.divide(Path("x"), names, "shuffled")
    assert np.bincount(labels[1]).tolist() == np.bincount([int(name[0]) for name in tested]).tolist() == [2] * 10
    assert held_out(200, "every-tenth", turn)[0].nonzero()[0].tolist() == list(range(9, 200, 10))
    assert np.random.RandomState(0).permutation(25)[[9, 19]].tolist() == [14, 20]
    assert held_out(25, "shuffled")[0].nonzero()[0].tolist() == [14, 20]
    with refused("'halves'", "shuffled, every-tenth"):
        held_out(9, "halves")
    alone = held_out(1000, "shuffled", np.arange(1000))[0].nonzero()[0]  # classes of one image, not tested in turn
    assert len({*alone % 10}) == 10 and 35 <= (alone % 2).sum() <= 65


@given(st.integers(2, 120), st.integers(1, 120), st.booleans())
@settings(max_examples=200)
def test_a_shuffled_split_leaves_neither_part_empty_and_is_in_proportion(count, kinds, turn):
    classes = np.arange(count) % kinds if turn else np.sort(np.arange(count) % kinds)
    test, _ = held_out(count, "shuffled", classes)
    assert test.sum() == max(1, count // 10) and np.array_equal(test, held_out(count, "shuffled", classes)[0])
    if count >= 10:
        tested, given = (np.bincount(found, minlength=kinds) for found in (classes[test], classes))
        assert np.abs(tested - given / 10).max() < 1


@pytest.mark.parametrize("count", [2, 3, 9])
def test_the_smallest_sets_load(count):
    np.save("a.npy", pixels(count, 4, 5))
    assert len(load("a.npy").test) == 1
    names = [f"train/{i}.png" for i in range(count)]
    found = opened(lay("f", *names, "test/a.png", "val/b.png", "c.png"))
    assert levels(found.train) == [*range(count)] and levels(found.test) == [count]
    assert found.split.startswith(f"{count} images to train on and 1 to test:") and "2 more" in found.split
    assert len(in_turn(save("g", *pixels(count, 4, 4))).test) == 1


TREES = {  # folders, a picture in each -> which are for testing, or None, or words of a refusal; classes
    "at the top": (["test", "train"], [0], ""),
    "with classes below": (["test/cat", "train/cat", "train/dog/x"], [0], "cat dog"),
    "below the classes": (["cat/train", "dog/test", "dog/train"], [1], "cat dog"),
    "further down": (["set/v1/test", "set/v1/train"], [0], ""),
    "in other words": (["TESTING", "Training"], [0], ""),
    "by a validation set": (["train", "val"], [1], ""),
    "with unlike classes": (["test/dog", "test/owl", "train/cat", "train/dog"], [0, 1], "cat dog owl"),
    "no split": (["bird", "cat/big", "cat/small", "dog"], None, "bird cat dog"),
    "a class called train": (["car/test", "car/train", "train/test", "train/train"], [0, 2], "car train"),
    "a class called train below": (["test/bus", "test/train", "train/bus", "train/train"], [0, 1], "bus train"),
    "a class called test below": (["test/bus", "test/test", "train/bus", "train/test"], [0, 1], "bus test"),
    "a class called test above": (["bus/test", "bus/train", "test/test", "test/train"], [0, 2], "bus test"),
    "only train": (["train/a", "train/b"], None, "a b"),
    "only test": (["test/a", "test/b"], None, "a b"),
    "only train, below classes": (["a/train", "b/train"], None, "a b"),
    "train among classes": (["car", "train", "tree"], None, "car train tree"),
    "parts for training": (["train_1/a", "train_1/b", "train_2/a", "train_2/b"], None, "a b"),
    "a common folder": (["set/img/a", "set/img/b"], None, "a b"),
    "nothing but a common folder": (["all", "all"], None, ""),
    "a test tube": (["mug", "test_tube"], None, "mug test_tube"),
    "both levels": (["test/test", "test/train", "train/test", "train/train"], "2 levels", None),
    "CycleGAN's": (["testA", "testB", "trainA", "trainB"], "testA, testB, trainA", None),
    "COCO's": (["train2017", "val2017"], "train2017, val2017", None),
    "Intel's": (["seg_test/a", "seg_train/a"], "seg_test, seg_train", None),
    "sets": (["test_set/a", "training_set/a"], "test_set, training_set", None),
    "dev": (["dev", "train"], "dev, train", None),
    "test without train": (["images", "test"], "names test look", None),
    "two depths": (["a/train", "b/c/test"], "names test look", None),
    "classes like a split": (["testA/test", "testA/train", "trainA/test", "trainA/train"], "testA, trainA", None),
}


@pytest.mark.parametrize("kind", TREES)
def test_one_level_of_the_tree_is_the_split_and_labels_are_not_lost(kind):
    places, tested, classes = TREES[kind]
    lay(".", *(f"{place}/{i}.png" for i, place in enumerate(places)))
    if isinstance(tested, str):
        refuses(".", tested, "rename")
        return
    found = opened(".")
    assert " ".join(found.classes or ()) == classes
    assert (levels(found.test) == tested) == ("folders named" in found.split) == (tested is not None)
    for part, names in zip(found.labels or (), found.files, strict=found.labels is not None):
        assert all(found.classes[label] in name.split("/") for label, name in zip(part, names, strict=True))


@given(st.lists(st.sampled_from(["car", "train", "test", "val"]), min_size=1, max_size=3, unique=True), st.data())
@settings(max_examples=60)
def test_no_picture_for_testing_is_ever_trained_on(classes, draw):
    """Trees built from a known split: the rule finds it, or refuses."""
    pairs = [("train", "test"), ("Training", "testing"), ("trainA", "testA"), ("train", "val")]
    words = draw.draw(st.sampled_from(pairs))
    below, prefix = draw.draw(st.booleans()), draw.draw(st.sampled_from(["", "set/v1/"]))
    names, truth = [], {}
    for kind in classes:
        for word in draw.draw(st.lists(st.sampled_from(words), min_size=1, max_size=2, unique=True)):
            names.append(f"{prefix}{kind}/{word}/a.png" if below else f"{prefix}{word}/{kind}/a.png")
            truth[names[-1]] = word == words[1]
    assume(len(set(truth.values())) == 2)
    with contextlib.suppress(DataError):
        train, test, _, _ = folders.divide(Path("x"), sorted(names), "shuffled")
        assert not any(truth[name] for name in train) and all(truth[name] for name in test)


def test_what_this_program_wrote_and_other_files_are_left_out_and_counted():
    lay(".", "a.png", "b.jfif.png", "runs/x/curves.png", "runs/x/samples-9-0/0.png", "cmp/curves.png")
    lay(".", "@eaDir/a.png/SYNO.jpg", "__MACOSX/a.png", ".thumbnails/a.png")
    written = "runs/x/config.json", "runs/x/checkpoint.npz", "cmp/comparison.json"
    put(dict.fromkeys((*written, "Thumbs.db", "c.heic", "README"), b"x"))
    Path("a.png").rename("a.JPE")
    found = load(".")
    assert sorted(found.files[0] + found.files[1]) == ["a.JPE", "b.jfif.png"]
    assert "folders that this program has written are left out: 2, such as" in found.split
    assert "other files are not read: 2 (" in found.split and "1 .heic" in found.split
    refuses("cmp", "found 0", "this program has written are left out: 1")


def test_a_name_of_a_data_set_and_of_a_folder_is_refused_and_a_path_is_the_folder():
    for name in data.DATASETS:
        lay(name, "0.png", "1.png")
        for read in (load, lambda name: images_at(name, (2, 2, 1))):
            with refused(name, f"give ./{name}"):
                read(name)
        assert load(f"./{name}").name == f"own-{name}" and safe_name(Path(f"{name}.npz")) == f"own-{name}"
    with refused("mnist", "by hand"):
        load("mnist", Path(), download=False)  # here ./mnist is where the data set is looked for


def tiff(array: np.ndarray, white_is_zero: bool = False) -> bytes:
    """A plain TIFF of one strip: the type of the array is the type stored."""
    high, wide, bits = *array.shape, array.dtype.itemsize * 8
    form = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    tags = {256: wide, 257: high, 258: bits, 259: 1, 262: 1 - white_is_zero, 273: 8, 277: 1, 278: high}
    tags |= {279: array.nbytes, 339: form}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = b"II*\0" + struct.pack("<I", 8 + array.nbytes) + array.tobytes()
    return head + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_pictures_are_scaled_by_the_stored_type_or_a_pgm_by_its_largest_value():
    for dtype, stored, expected in (
        ("u2", [0x4321, 0xFFFF], [0x43, 0xFF]),
        ("-u2", [0x4321, 0], [0xBC, 0xFF]),  # white is zero
        ("-u1", [0x43, 0], [0xBC, 0xFF]),
        ("-f4", [0.5, 0], [127, 0xFF]),
        ("i2", [0x4321, 0x7FFF], [0x86, 0xFF]),
        ("u4", [0x4321 << 16, 0xFFFFFFFF], [0x43, 0xFF]),
        ("i4", [0x4321 << 16, 0x7FFFFFFF], [0x86, 0xFF]),
        ("f4", [0.5, 1], [128, 255]),
    ):
        content = tiff(np.array([stored], dtype.strip("-")), dtype[0] == "-")
        found = opened(put({"a.tif": content, "b.tif": content}, "tiff"))
        assert found.train.tolist() == [expected], dtype
    pgm = b"P5 2 1 4095\n" + struct.pack(">2H", 2048, 4095)
    put({"a.png": encoded(np.array([[0x8021, 0xFFFF]], np.uint16)), "b.pgm": pgm}, "others")
    assert load("others").population.tolist() == [[128, 255]] * 2


NOISE, PAGE = np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8), np.full((4, 4), 99, np.uint8)

BROKEN = {
    "12 bits in 16": (tiff(np.array([[4095, 9]], "u2")), "6.25%.*multiply"),
    "14 bits in 16": (tiff(np.array([[16383, 9]], "u2")), "25.00%.*multiply"),
    "bytes in 32 bits": (tiff(np.array([[255, 9]], "i4")), "0.39%.*multiply"),
    "negative": (tiff(np.array([[-1, 9]], "i2")), "negative numbers"),
    "signed bytes": (tiff(np.array([[99, 9]], "i1")), "signed bytes"),
    "floats to 255": (tiff(np.array([[255, 9]], "f4")), "floats must lie in .0, 1., found 9 to 255"),
    "float64": (tiff(np.array([[1, 0.5]], "f8")), "a TIFF that is cut, or of a layout"),
    "pages": (encoded(PAGE, "TIFF", save_all=True, append_images=[Image.fromarray(PAGE)] * 2), "holds 3 pages"),
    "a JPEG filled with zeros": (encoded(NOISE, "JPEG")[:2000] + bytes(2000), "its end is missing"),
    "a progressive JPEG filled": (encoded(NOISE, "JPEG", progressive=True)[:2000] + bytes(2000), "its end is missing"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_pictures_that_would_be_read_wrong_are_refused(kind):
    content, words = BROKEN[kind]
    folder = put({"a.tif": content, "b.jpg": content}, "mine")
    assert "mine: " in refuses(folder, words, size=2 if "JPEG" in kind else None)


def test_broken_pictures_are_left_out_by_name_if_that_is_wanted():
    lay(".", *(f"{side}/{kind}/{i}.png" for side in ("train", "test") for kind in "ab" for i in range(3)))
    put({"train/a/0.png": b"hello", "test/b/2.png": b"hello"})
    refuses(".", "2 of 12", "--skip-broken")
    found = opened(".", skip_broken=True)
    assert levels(found.train) == [1, 2, 3, 4, 5] and levels(found.test) == [6, 7, 8, 9, 10]
    assert [part.tolist() for part in found.labels] == [[0, 0, 1, 1, 1], [0, 0, 0, 1, 1]]
    assert "2 pictures that cannot be read are left out: test/b/2.png (is none of PNG" in found.split
    put(dict.fromkeys(found.files[1], b""))
    refuses(".", "no picture is left", "test/a/0.png", skip_broken=True)
    with refused("2 of 2", "gone.png .*No such file", "lost.png"):
        images.read(Path(), ["gone.png", "lost.png"])
    refuses("digits", "--skip-broken", "digits", skip_broken=True)


def test_a_program_that_lets_pillow_repair_pictures_is_told(monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    assert "LOAD_TRUNCATED_IMAGES" in refuses(lay(".", "0.png", "1.png"), "set it to False")


def test_limits_are_of_what_is_decoded(monkeypatch):
    page = Image.new("1", (4960, 7016), 1)  # A4 at 600 dpi
    page.paste(0, (0, 0, 4960, 3508))
    scans = save("scans", *[np.asarray(page)] * 2, form="TIFF", compression="group4")
    assert Path(scans, "000.tiff").stat().st_size < 20_000
    assert np.abs(load(scans, size=2).train[0].astype(int) - [0, 0, 255, 255]).max() < 20
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    grey = np.full((2, 80, 80), 200, np.uint8)
    large = save("jpg", *grey, form="JPEG")
    assert load(large, size=5).train.tolist() == [[200] * 25]
    refuses(large, "bomb", "80 x 80", "scale it down")
    refuses(save("png", *grey), "bomb", "80 x 80", "scale it down", size=5)


def amat(rows: np.ndarray) -> bytes:
    return "".join(" ".join(f"{value:g}" for value in row) + " \n" for row in rows.tolist()).encode()


def test_amat_is_black_and_white_or_floats_and_may_end_with_labels():
    x = np.random.default_rng(2).integers(0, 2, (2300, 4))
    parts = {"train": x[:2200], "valid": x[:9], "test": x[2200:]}
    static = put({f"binarized_mnist_{name}.amat": amat(part) for name, part in parts.items()}, "static")
    found = load(static)
    assert holds(found, 255 * x[:2200], 255 * x[2200:])
    assert (found.shape, found.labels) == ((2, 2, 1), None) and "validation is left out" in found.split
    put({"rotated.amat": amat(np.c_[x[:20] / 4, np.arange(20) % 2 + 3])})
    found = in_turn("rotated.amat")
    assert np.array_equal(found.test, x[[9, 19]] / np.float32(4)) and found.classes == ("3", "4")
    assert images_at("rotated.amat", (2, 2, 1))[0].tolist() == (x[:20] / 4).tolist()
    parts = {f"{side}.amat": amat(np.c_[x[:n] / 4, np.arange(n)]) for side, n in (("train", 3), ("test", 2))}
    labels = opened(put(parts, "labelled")).labels
    assert [part.tolist() for part in labels] == [[0, 1, 2], [0, 1]]
    put({"static/another_test.amat": b"0 1\n", "bad.amat": b"0 1\n0 1 1\n", "empty.amat": b""})
    for name, words in (("static", "one .amat with test"), ("bad.amat", "one length"), ("empty.amat", r"\(0, 1\)")):
        refuses(name, name, words)


def test_the_lines_of_python_for_other_files_make_the_right_npz():
    grey, colour, labels = pixels(6, 28, 28), pixels(6, 32, 32, 3), np.arange(6) % 3
    planes = colour.transpose(0, 3, 1, 2).reshape(6, -1)
    np.savetxt("train.csv", np.c_[labels, grey.reshape(6, -1)], "%d", ",", header="label,pixels", comments="")
    Path("data_batch_1").write_bytes(pickle.dumps({b"data": planes, b"labels": labels.tolist()}))
    Path("array.pkl").write_bytes(pickle.dumps(grey))
    first, *others = map(Image.fromarray, grey)
    first.save("stack.tif", save_all=True, append_images=others)
    expected = {"train.csv": grey, "data_batch_1": colour, "array.pkl": grey, "stack.tif": grey}
    with contextlib.suppress(ImportError):
        from scipy.io import savemat

        column_major = grey.transpose(0, 2, 1).reshape(6, -1).T / 255
        savemat("chardata.mat", {"data": column_major[:, :4], "testdata": column_major[:, 4:]})
        savemat("frey_rawface.mat", {"ff": grey.reshape(6, -1)[:, :560].T})
        savemat("train_32x32.mat", {"X": colour.transpose(1, 2, 3, 0), "y": labels[:, None]})
        savemat("other.mat", {"NAME": grey})
        expected |= {"chardata.mat": grey / np.float32(255), "frey_rawface.mat": grey.reshape(6, -1)[:, :560]}
        expected |= {"train_32x32.mat": colour, "other.mat": grey}
    for name, arrays in expected.items():
        with pytest.raises(DataError, match="in Python: ") as error:
            load(name)
        exec(str(error.value).split("in Python: ")[1], {})
        found = load(f"{name.split('.')[0]}.npz")
        assert sorted(found.population.tolist()) == sorted(arrays.reshape(6, -1).tolist()), name
        assert found.classes == (("0", "1", "2") if name in ("train.csv", "data_batch_1", "train_32x32.mat") else None)
    Path("h.h5").write_bytes(b"x")
    refuses("h.h5", "h5py.File.'h.h5'")
    refuses(put({"data_batch_1": b"x"}, "only"), "found 0", "data_batch_1")
    first.save("one.png")
    refuses("one.png", "one.png is one picture", "a folder")


NAMES = st.text(st.characters(), max_size=99) | st.sampled_from(["../x", "a.jpg", "a.jpg.png", "A.JPG", "a/b"])


@given(st.lists(NAMES))
@settings(max_examples=300)
def test_names_of_files_are_safe_and_distinct_whatever_the_names(names):
    stems = file_names(names)
    assert len({stem.lower() for stem in stems} - {"sheet"}) == len(names)
    for stem in stems:
        assert Path(stem).name == stem and stem[0] not in ".-" and stem[-1] != "." and not {*stem} & {*'\\:*?"<>| \n\0'}
        assert len(f".{stem}.png.0123456789ab.tmp".encode()) <= 255


def test_names_of_files_are_the_names_where_they_are_safe():
    names = ["train/0.png", "a.jpg", "a.jpg.png", "SHEET.png", "..", "猫.PNG", "e\u0301", "\xe9", "nul.x", "im\udce9"]
    assert file_names(names) == ["train_0", "a.jpg", "a.jpg-2", "SHEET-2", "image", "猫", "é", "é-2", "_nul.x", "im_"]
