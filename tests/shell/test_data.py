"""The data sets and the readers of files that nobody vouches for."""

import gzip
import hashlib
import http.server
import io
import lzma
import os
import shutil
import stat
import struct
import sys
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import data
from data import DataError, binarize, cifar10, default_dir, download, files, folders, idx, images_at, load, mnist
from data.files import write_whole
from tests.hostile import CASES, for_all, mutations, peak

pytestmark = pytest.mark.usefixtures("elsewhere")
RNG, DEFAULT = np.random.default_rng(0), default_dir()
HERE = Path("no-data")  # the default of `elsewhere`


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def put(contents: dict[str, bytes], folder: str | Path = ".") -> str | Path:
    """Files of these names and contents in a folder, which is returned."""
    for name, content in contents.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def encoded(picture: np.ndarray, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form, **options)
    return buffer.getvalue()


def save_pictures(folder: str, *pictures: np.ndarray, form: str = "PNG", **options) -> str:
    return put({f"{i:03}.{form.lower()}": encoded(x, form, **options) for i, x in enumerate(pictures)}, folder)


def refused(*words: str):
    """A context in which a DataError of one line is raised that holds all the words."""
    return pytest.raises(DataError, match=r"(?s)\A" + "".join(f"(?=.*{w})" for w in words) + r"[^\n]+\Z")


def refuses(source, *words: str, read=load, **how) -> str:
    """The sentence of the DataError that read(source) raises: one line that holds all the words."""
    with refused(*words) as error:
        read(str(source), **how)
    return str(error.value)


def lay(folder: str, *names: str) -> str:
    """A picture of one grey level under each name; the level is 100 and the picture's place in the list."""
    return put({name: encoded(np.full((2, 2), 100 + i, np.uint8)) for i, name in enumerate(names)}, folder)


def levels(pixels: np.ndarray) -> list[int]:
    return (pixels[:, 0].astype(int) - 100).tolist()


def holds(found: data.Dataset, train: np.ndarray, test: np.ndarray) -> bool:
    """Whether the images of a data set are these."""
    return all(np.array_equal(x, a.reshape(len(a), -1)) for x, a in ((found.train, train), (found.test, test)))


def opened(source, **how) -> data.Dataset:
    """The data set, which has the invariants of every Dataset."""
    found = load(str(source), **how)
    height, width, channels = found.shape
    for x in (found.train, found.test):
        assert x.ndim == 2 and x.shape[0] >= 1 and x.shape[1] == height * width * channels
        assert x.dtype == np.uint8 or (x.dtype == np.float32 and x.min() >= 0 and x.max() <= 1)
    counts = len(found.train), len(found.test)
    assert found.split.startswith("{:,} images to train on and {:,} to test: ".format(*counts))
    assert (found.labels is None) == (found.classes is None)
    for parts in (found.labels, found.files):
        assert parts is None or tuple(map(len, parts)) == counts
    for labels in found.labels or ():
        assert labels.ndim == 1 and {*labels} <= {*range(len(found.classes))}
    return found


def in_turn(source, **how) -> data.Dataset:
    """A data set that is split by the rule of version 0.2."""
    return opened(source, split="every-tenth", **how)


def test_digits_are_the_uci_set_scaled_to_255_and_every_sixth_is_for_testing():
    digits = opened("digits")
    assert (digits.name, digits.shape, len(digits.train)) == ("digits", (8, 8, 1), 1498)
    assert digits.train[0, :8].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # 0 0 5 13 9 1 0 0 of 16
    assert digits.train[-1, -8:].tolist() == [0, 16, 128, 191, 223, 191, 16, 0]  # 0 1 8 12 14 12 1 0
    assert digits.train.max() == 255
    assert digits.classes == tuple("0123456789") and digits.labels[0][:6].tolist() == [0, 1, 2, 3, 4, 6]
    assert digits.labels[1][:3].tolist() == [5, 1, 7]  # the sixth, the twelfth and the eighteenth
    counts = np.bincount(np.concatenate(digits.labels)).tolist()
    assert counts == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert Path(data.__file__).with_name("digits.npz").stat().st_size < 100_000


def test_mnist_10k_is_the_published_file_and_every_sixth_image_is_for_testing():
    found = opened("mnist-10k", data_dir=Path("nowhere"), download=False)
    assert (found.name, found.shape, len(found.train)) == ("mnist-10k", (28, 28, 1), 8334)
    order = np.argsort(np.arange(10_000) % 6 == 5, kind="stable")  # what is for testing comes last
    images, labels = np.empty((10_000, 28, 28), np.uint8), np.empty(10_000, np.uint8)
    images[order], labels[order] = found.population.reshape(-1, 28, 28), np.concatenate(found.labels)
    for name, array in (("t10k-images-idx3-ubyte", images), ("t10k-labels-idx1-ubyte", labels)):
        assert hashlib.sha256(idx_bytes(array)).hexdigest() == mnist.SHA256[name]
    assert found.classes == tuple("0123456789")


def test_mnist_10k_is_small_and_refused_when_altered_or_without_xz_in_python(monkeypatch):
    paths = list(Path(data.__file__).parent.glob("t10k-*.xz"))
    assert len(paths) == 2 and sum(path.stat().st_size for path in paths) < 1_400_000
    put({path.name: path.read_bytes() for path in paths})
    monkeypatch.setattr(mnist, "__file__", "mnist.py")
    altered = Path("t10k-labels-idx1-ubyte.xz")
    whole = altered.read_bytes()
    labels = lzma.decompress(whole)
    for content in (whole[:-20], whole[:2000] + b"x" + whole[2001:], lzma.compress(labels[:-1] + b"\0"), b"", labels):
        altered.write_bytes(content)
        refuses("mnist-10k", altered.name, "restore it from the repository")
    monkeypatch.setitem(sys.modules, "lzma", None)
    refuses("mnist-10k", "xz", "digits")


def test_size_is_refused_where_it_has_no_meaning():
    np.savez("a.npz", train=pixels(2, 4), test=pixels(2, 4))
    for source in ("digits", "mnist", "a.npz"):
        refuses(source, "--size", source, size=8)
    assert "--size must be at least 1, found 0" in refuses(save_pictures("a", *pixels(2, 4, 4)), size=0)


def test_what_the_system_refuses_is_a_data_error_and_not_passed_over(monkeypatch, small_cifar):
    content = tar(small_cifar)
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(content).hexdigest())
    put({"cifar-10-binary.tar.gz": content, cifar10.FOLDER: b"a file where the folder should be"}, HERE)
    assert "cifar10 could not be loaded" in refuses("cifar10", "exists")
    # A row of the table is all that a new set needs.
    monkeypatch.setitem(data.DATASETS, "huge", lambda *_: np.empty(2**59, np.uint8))
    assert "does not fit into memory" in refuses("huge", "huge")
    lay("mine", "a/0.png", "b/1.png", "b/2.png")
    scandir = os.scandir

    def deny(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    assert "Permission denied" in refuses("mine", "a")


def test_the_default_place_is_the_variable_or_the_users_cache_or_none_is_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("TAMING_VAES_DATA", str(tmp_path))
    assert default_dir() == tmp_path
    refuses("mnist", str(tmp_path), "train-images-idx3-ubyte.gz", "by hand", download=False)
    monkeypatch.delenv("TAMING_VAES_DATA")
    for platform, variable in (("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")):
        monkeypatch.setattr("sys.platform", platform)
        monkeypatch.setenv(variable, str(tmp_path))
        assert default_dir() == tmp_path / "taming-vaes"
        monkeypatch.delenv(variable)
        assert Path.home() in default_dir().parents and default_dir().name == "taming-vaes"
    monkeypatch.setattr("sys.platform", "darwin")
    assert default_dir() == Path.home() / "Library" / "Caches" / "taming-vaes"

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    refuses("mnist", "home folder", "TAMING_VAES_DATA", "--data-dir")
    opened("digits")


@pytest.mark.parametrize("cast", [np.uint8, np.float32])
def test_binarization_is_a_bernoulli_draw_with_the_pixel_as_probability(cast):
    grey = np.tile(np.array([0, 51, 128, 204, 255]), (20_000, 1))
    drawn = binarize((grey / 255).astype(cast) if cast is np.float32 else grey.astype(cast), seed=3)
    assert drawn.dtype == np.uint8 and set(np.unique(drawn)) == {0, 255}
    assert np.allclose(drawn.mean(0), grey[0], atol=255 * 4 * 0.5 / 20_000**0.5)
    assert (drawn[:, 0] == 0).all() and (drawn[:, -1] == 255).all()


@pytest.mark.parametrize("draw", [0, np.nextafter(np.float32(1), np.float32(0))])
def test_binarization_never_changes_black_and_white(monkeypatch, draw):
    extreme = SimpleNamespace(random=lambda shape, dtype: np.full(shape, draw, dtype))
    monkeypatch.setattr(np.random, "default_rng", lambda seed: extreme)
    for black_and_white in (np.array([[0, 255]], np.uint8), np.array([[0, 1]], np.float32)):
        assert binarize(black_and_white, 0).tolist() == [[0, 255]]


def test_binarization_is_fixed_by_its_seed_alters_nothing_and_keeps_no_float_copy():
    grey = pixels(3000, 9)
    before = grey.copy()
    assert np.array_equal(binarize(grey, 1), binarize(grey, 1)) and np.array_equal(grey, before)
    assert not np.array_equal(binarize(grey, 1), binarize(grey, 2))
    first, second = np.split(binarize(np.full((2048, 9), 128, np.uint8), 1), 2)
    assert not np.array_equal(first, second)
    # 8 MB, which as float32 would be 32 MB
    assert peak(binarize, np.zeros((20_000, 400), np.uint8), 0) < 20e6


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(failure):
    path = Path("deep/file")
    write_whole(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"new")
        raise failure

    with pytest.raises(type(failure)):
        write_whole(path, fail)
    assert path.read_bytes() == b"old" and os.listdir(path.parent) == ["file"]
    write_whole(path, lambda file: file.write(b"newer"))
    assert path.read_bytes() == b"newer" and os.listdir(path.parent) == ["file"]


def test_a_file_is_on_the_disk_before_its_name_and_then_the_name_too(monkeypatch):
    order = []
    monkeypatch.setattr(files.os, "fsync", lambda fd: order.append("fsync" + " folder" * stat.S_ISDIR(os.fstat(fd)[0])))
    replace = os.replace
    monkeypatch.setattr(files.os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    write_whole("file", lambda file: file.write(b"x"))
    assert order == ["fsync", "replace", "fsync folder"]


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3) | st.tuples(st.integers(1, 9))), st.booleans())
@settings(max_examples=40)
def test_idx_gives_back_what_was_written_gzipped_or_not(array, zipped):
    path = Path("file")  # no .gz in the name: the contents decide
    path.write_bytes(gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array))
    assert np.array_equal(idx.read_idx(path), array)
    assert np.array_equal(idx.read_idx(path, hashlib.sha256(idx_bytes(array)).hexdigest()), array)


GOOD = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
BILLIONS = b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 28, 28)
BAD_IDX = {
    "empty": (b"", "IDX", "no data"),
    "text": (b"<html>not found</html>", "IDX", "3c68746d"),
    "of floats": (b"\0\0\x0d\x03" + GOOD[4:], "00000d03"),
    "cut in its header": (GOOD[:9], "00000801 or 00000803 and sizes", "found 000008030000000200"),
    "cut in its data": (GOOD[:-1], "promises 24", "only 23"),
    "too long": (GOOD + b"x", "promises 24", "more"),
    "too long after a block": (idx_bytes(np.zeros(files.BLOCK, np.uint8)) + b"x", "promises 1048576", "more"),
    "a cut gzip": (gzip.compress(GOOD)[:-9], "gzip", "damaged"),
    "a gzip with a wrong checksum": (gzip.compress(GOOD)[:-8] + b"12345678", "gzip", "damaged"),
    "a gzip bomb": (gzip.compress(GOOD + bytes(100_000_000), compresslevel=1), "promises 24", "more"),
    "billions": (BILLIONS, f"promises {2**31 * 784}", "only 0"),
    "billions and some": (BILLIONS + bytes(1000), f"promises {2**31 * 784}", "only 1000"),
    "billions in a gzip": (gzip.compress(BILLIONS + bytes(1000)), f"promises {2**31 * 784}", "only 1000"),
}


@pytest.mark.parametrize("test_name", ["t10k-images-idx3-ubyte.gz", "test-images.idx3-ubyte"])
def test_a_folder_of_idx_files_is_a_data_set_of_any_height_and_width(test_name):
    for shape in ((3, 4), (1, 4), (9, 3)):
        train, test = pixels(9, *shape), pixels(2, *shape)
        contents = {"train-images-idx3-ubyte": idx_bytes(train), test_name: gzip.compress(idx_bytes(test))}
        found = opened(put(contents, "My fashion"))
        assert (found.name, found.shape) == ("My-fashion", (*shape, 1)) and "as its files say" in found.split
        assert holds(found, train, test)


def test_labels_beside_idx_files_of_any_names_are_classes_of_both_parts_or_none():
    train, test, start = pixels(5, 3, 4), pixels(2, 3, 4), "emnist-letters-"
    contents = {f"{start}train-images-idx3-ubyte": idx_bytes(train), f"{start}test-images-idx3-ubyte": idx_bytes(test)}
    contents[f"{start}train-labels-idx1-ubyte"] = idx_bytes(np.array([7, 3, 3, 9, 7], np.uint8))
    assert opened(put(contents)).labels is None
    put({f"{start}test-labels-idx1-ubyte": idx_bytes(np.array([9, 1], np.uint8))})
    found = opened(".")
    assert holds(found, train, test) and found.classes == ("1", "3", "7", "9")
    assert [labels.tolist() for labels in found.labels] == [[2, 1, 1, 3, 2], [3, 0]]
    put({f"{start}test-labels-idx1-ubyte": idx_bytes(np.array([9], np.uint8))})
    refuses(".", "a label for each image", r"\[5, 2\], found \[5, 1\]")
    put({"emnist-digits-train-images-idx3-ubyte": idx_bytes(train)})
    refuses(".", "2 data sets", "'emnist-digits-', 'emnist-letters-'")


def test_a_folder_of_idx_files_that_do_not_fit_is_refused():
    put({"train-images-idx3-ubyte": idx_bytes(pixels(5, 3, 4))})
    assert "none found" in refuses(".", "t10k-images")
    for shape, words in (((5, 4, 3), "5, 4, 3.*expected .N, 3, 4"), ((5,), r"sizes \(5,\)"), ((0, 3, 4), "0, 3, 4")):
        put({"t10k-images-idx3-ubyte": idx_bytes(pixels(*shape))})
        refuses(".", words)


@pytest.fixture
def small_mnist(monkeypatch):
    """A published MNIST of a few images: file name → decompressed contents."""
    contents = {}
    for name in mnist.SHA256:
        count, shape = 6 if "train" in name else 4, (28, 28) if "images" in name else ()
        contents[name] = idx_bytes(pixels(count, *shape) % 10 * (25 if shape else 1))
    monkeypatch.setattr(mnist, "SHA256", {name: hashlib.sha256(c).hexdigest() for name, c in contents.items()})
    monkeypatch.setattr(mnist, "MIRRORS", ())  # a test never asks the real ones
    return contents


def lay_out(contents: dict[str, bytes], folder: Path) -> None:
    for i, (name, content) in enumerate(contents.items()):
        put({f"{name}.gz": gzip.compress(content)} if i % 2 else {name: content}, folder)


def test_mnist_files_found_are_taken_gzipped_or_not(small_mnist):
    lay_out(small_mnist, HERE / "mnist")
    found = opened("mnist", data_dir=HERE, download=False)
    assert (found.name, found.shape) == ("mnist", (28, 28, 1))
    assert found.train.tobytes() == small_mnist["train-images-idx3-ubyte"][16:]
    assert found.test.tobytes() == small_mnist["t10k-images-idx3-ubyte"][16:]
    for labels, name in zip(found.labels, ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"), strict=True):
        assert [int(found.classes[label]) for label in labels] == list(small_mnist[name][8:])
    (HERE / "mnist" / "train-labels-idx1-ubyte").unlink()
    assert load("mnist", download=False).labels is None


@pytest.mark.parametrize("name", mnist.SHA256)
def test_an_altered_mnist_file_is_refused_even_if_only_a_label_changed(small_mnist, name):
    expected, good = mnist.SHA256[name], small_mnist[name]
    lay_out(small_mnist | {name: good[:-1] + bytes([good[-1] ^ 1])}, HERE / "mnist")
    assert "delete it" in refuses("mnist", name, expected, "found", download=False)


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path, {"status": 404, "body": b""})
        self.send_response(answer.get("status", 200))
        self.send_header("Content-Length", str(answer.get("promised", len(answer["body"]))))
        self.end_headers()
        self.wfile.write(answer["body"])
        time.sleep(answer.get("stall", 0))


@pytest.fixture
def server(monkeypatch):
    """A server on this machine: the test sets `answers` by their paths, and `asked` lists the paths."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSES", (0, 0))
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    running.answers, running.asked, running.url = {}, [], f"http://127.0.0.1:{running.server_port}"
    threading.Thread(target=running.serve_forever, args=[0.01], daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


def test_missing_mnist_is_downloaded_whole_verified_and_only_once(small_mnist, server, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url + "/a/", server.url + "/b/"))
    for name, content in small_mnist.items():
        whole = gzip.compress(content)
        server.answers[f"/b/{name}.gz"] = {"body": whole}  # the first mirror breaks off
        server.answers[f"/a/{name}.gz"] = {"body": whole[:-20], "promised": len(whole)}
    found = load("mnist")
    assert found.train.tobytes() == small_mnist["train-images-idx3-ubyte"][16:]
    assert everything_in(HERE) == sorted(f"{name}.gz" for name in small_mnist)
    assert np.array_equal(load("mnist").test, found.test) and len(server.asked) == 8


def test_a_bad_download_is_tried_again_then_refused_and_leaves_nothing(small_mnist, server, monkeypatch):
    first = "train-images-idx3-ubyte"
    good = gzip.compress(small_mnist[first])
    monkeypatch.setattr(mnist, "MIRRORS", (server.url + "/",))
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    for kind, answer in {
        "an error page": {"body": b"<html>log in first</html>"},
        "a status": {"body": b"", "status": 503},
        "other bytes": {"body": gzip.compress(GOOD)},
        "a cut file": {"body": good[:-20], "promised": len(good)},
        "a cut gzip with a matching length": {"body": good[:-20]},
        "a stall": {"body": good[:100], "promised": len(good), "stall": 3},
    }.items():
        start = time.monotonic()
        server.asked.clear()
        server.answers[f"/{first}.gz"] = answer
        words = str(HERE / "mnist"), first, server.url, "could not be downloaded", "by hand"
        refuses("mnist", *words)
        assert everything_in(HERE) == [] and server.asked == [f"/{first}.gz"] * 2, kind
        assert time.monotonic() - start < 2.5, kind  # a stalled server is not waited for


def test_without_a_network_the_error_says_where_files_belong_and_whence_to_get_them(small_mnist, server):
    mnist.MIRRORS = (server.url + "/",)  # small_mnist restores it
    for source, words in (("mnist", [server.url]), ("cifar10", ["cs.toronto.edu"])):
        refuses(source, str(HERE), "by hand", *words, download=False)
    assert server.asked == []
    server.shutdown()
    server.server_close()
    words = str(HERE / "mnist" / "train-images-idx3-ubyte.gz"), "refused", f"get {server.url}/"
    refuses("mnist", *words)
    assert everything_in(HERE) == []


NAMES = cifar10.TRAIN + cifar10.TEST


@pytest.fixture
def small_cifar(monkeypatch):
    """A published CIFAR-10 of three images a file: path in the archive → contents."""
    monkeypatch.setattr(cifar10, "IMAGES", 3)
    monkeypatch.setattr(cifar10, "URLS", ())
    contents = {name: pixels(3, cifar10.RECORD) for name in NAMES}
    for records in contents.values():
        records[:, 0] %= 10
    for names in (cifar10.TRAIN, cifar10.TEST):
        rows = sorted(hashlib.sha256(row.tobytes()).hexdigest() for name in names for row in contents[name])
        monkeypatch.setitem(cifar10.SHA256, names, hashlib.sha256(bytes.fromhex("".join(rows))).hexdigest())
    return {f"{cifar10.FOLDER}/{name}": records.tobytes() for name, records in contents.items()}


def tar(members: dict[str, bytes]) -> bytes:
    put(members, "unpacked")
    return Path(shutil.make_archive("packed", "gztar", "unpacked", cifar10.FOLDER)).read_bytes()


def test_cifar_planes_become_pixels_channel_last(small_cifar):
    found = opened("cifar10", data_dir=put(small_cifar, HERE), download=False)
    assert (found.name, found.shape, len(found.train)) == ("cifar10", (32, 32, 3), 15)
    records = np.frombuffer(b"".join(small_cifar.values()), np.uint8).reshape(18, 3073)
    for channel in range(3):
        planes = records[:, 1 + 1024 * channel : 1025 + 1024 * channel].reshape(18, 32, 32)
        assert np.array_equal(found.population.reshape(18, 32, 32, 3)[..., channel], planes)
    assert np.array_equal(np.concatenate(found.labels), records[:, 0])
    assert found.classes[3:7] == ("cat", "deer", "dog", "frog") and len(found.classes) == 10


@pytest.mark.parametrize("name", [NAMES[0], NAMES[4], NAMES[5]])
def test_a_cifar_file_of_a_wrong_size_or_with_other_contents_is_refused(small_cifar, name):
    path, good = put(small_cifar, HERE) / cifar10.FOLDER / name, small_cifar[f"{cifar10.FOLDER}/{name}"]
    for content in (b"", good[:-1], good + b"x"):
        path.write_bytes(content)
        refuses("cifar10", name, "expected 9219", f"found {len(content)}")
    another_label = bytes([(good[0] + 1) % 10])
    another_pixel = bytes([good[-1] ^ 1])
    for content in (bytes(len(good)), another_label + good[1:], good[:-1] + another_pixel, good[:6146] + good[:3073]):
        path.write_bytes(content)
        assert "not the published" in refuses("cifar10", name, "delete")


def test_records_of_cifar_may_stand_in_another_order_but_not_in_the_other_part(small_cifar):
    *train, test = small_cifar
    whole = b"".join(small_cifar[name] for name in train)
    turned = [whole[i : i + 3073] for i in range(0, len(whole), 3073)][::-1]
    in_order = {name: b"".join(turned[3 * i : 3 * i + 3]) for i, name in enumerate(train)}
    put(small_cifar | in_order, HERE)
    assert load("cifar10").labels[0].tolist() == [record[0] for record in turned]
    put({test: small_cifar[train[0]]}, HERE)
    refuses("cifar10", "test_batch.bin", "published")


def test_missing_cifar_is_downloaded_verified_and_extracted(small_cifar, server, monkeypatch):
    content = tar(small_cifar)
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(content).hexdigest())
    monkeypatch.setattr(cifar10, "URLS", (server.url + "/cifar.tar.gz",))
    server.answers["/cifar.tar.gz"] = {"body": content[:-1] + b"x"}
    refuses("cifar10", "sent something else", "by hand")
    assert everything_in(HERE) == []
    server.answers["/cifar.tar.gz"] = {"body": content}
    first = opened("cifar10")
    assert everything_in(HERE) == sorted([*NAMES, "cifar-10-binary.tar.gz"])
    missing = HERE / cifar10.FOLDER / NAMES[2]
    missing.unlink()  # it comes back from the archive that is kept
    assert np.array_equal(load("cifar10").train, first.train) and len(server.asked) == 3
    missing.unlink()
    put({"cifar-10-binary.tar.gz": content + b"x"}, HERE)
    refuses("cifar10", "cifar-10-binary.tar.gz", cifar10.MD5, "found")
    assert not missing.exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("one", "shape"),
    [((5, 7), (5, 7, 1)), ((5, 7, 1), (5, 7, 1)), ((5, 7, 3), (5, 7, 3)), ((49,), (7, 7, 1)), ((48,), (1, 48, 1))],
)
def test_an_npz_of_any_allowed_shape_is_a_data_set(save, one, shape):
    train, test = pixels(6, *one), np.asfortranarray(pixels(2, *one))
    save("my set.v2.npz", train=train, test=test)
    found = opened("my set.v2.npz")
    assert (found.name, found.shape, found.train.dtype) == ("my-set.v2", shape, np.uint8)
    assert holds(found, train, test)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8"])
def test_floats_of_any_width_become_float32(dtype):
    train, test = RNG.random((4, 9)).astype(dtype), np.ones((1, 9), dtype)
    np.savez("a.npz", train=train, test=test)
    found = opened("a.npz")
    assert found.train.dtype == np.float32 and np.array_equal(found.train, train.astype(np.float32))


OK = np.full((4, 9), 0.5)
BAD_ARRAYS = {
    "other names": ({"first": OK, "second": OK}, "one array", "x_train and x_test", "found 'first', 'second'"),
    "half a pair": ({"x_train": OK, "test": OK}, "train and test", "found 'x_train', 'test'"),
    "no arrays": ({}, "found nothing"),
    "one image": ({"train": OK[:1]}, "at least two", "found 1"),
    "too few labels": ({"train": OK, "test": OK, "labels": np.arange(7)}, "label", r"\[4, 4\]", r"\[7\]"),
    "labels swapped": ({"x_train": OK, "x_test": OK[:1], "y_train": [0], "y_test": [0] * 4}, r"\[4, 1\].*\[1, 4\]"),
    "labels of one array in two": ({"x": OK, "y_train": np.arange(3), "y_test": np.arange(1)}, r"\[4\]", r"\[3, 1\]"),
    "labels that are no integers": ({"x": OK, "labels": np.ones(4)}, "labels is float64", "integer"),
    "labels that are no column": ({"x": OK, "labels": np.eye(4, dtype=int)}, "labels", r"\(4, 4\)"),
    "integers": ({"train": OK.astype(int), "test": OK.astype(int)}, "train is int", "uint8", "astype"),
    "complex": ({"train": OK * 1j, "test": OK}, "train is complex128"),
    "records": ({"train": np.zeros((4, 9), "u1,u1"), "test": OK}, "train is"),
    "NaN": ({"train": OK, "test": np.where(np.eye(4, 9) > 0, np.nan, OK)}, "test", "4 NaN", r"index .0, 0."),
    "infinity": ({"train": OK * np.inf, "test": OK}, "train", "inf"),
    "above 1": ({"train": OK * 255, "test": OK}, "train", "127.5"),
    "below 0": ({"train": OK - 0.6, "test": OK}, "train", "-0.1"),
    "no images": ({"train": OK[:0], "test": OK}, r"\(0, 9\)"),
    "no pixels": ({"train": OK[:, :0], "test": OK[:, :0]}, r"\(4, 0\)"),
    "one dimension": ({"train": OK[0], "test": OK[0]}, r"\(9,\)"),
    "five dimensions": ({"train": OK[:, :, None, None, None], "test": OK}, r"\(4, 9, 1, 1, 1\)"),
    "four channels": ({"train": np.zeros((2, 3, 3, 4)), "test": OK}, r"\(2, 3, 3, 4\)"),
    "another size": ({"train": OK, "test": OK[:, :4]}, r"\(4, 4\)", "expected .*N, 9"),
    "another type": ({"train": OK, "test": (OK * 510).astype(np.uint8)}, "float32", "uint8"),
}


@pytest.mark.parametrize("labels", [("labels",), ("y_train", "y_test"), ("train_labels", "test_labels"), ()])
@pytest.mark.parametrize("images", [("train", "test"), ("x_train", "x_test"), ("train_images", "test_images")])
def test_usual_pairs_of_names_are_a_split_and_labels_keep_to_their_images(images, labels):
    train, test = np.array([5, -1, 5], np.int16), np.array([[700], [5]], np.int16)  # (N,) and (N, 1)
    of_all = [np.concatenate([train, test[:, 0]])]
    arrays = dict(zip(labels, of_all if len(labels) == 1 else [train, test], strict=False))
    x = pixels(5, 4)
    np.savez("a.npz", **{images[0]: x[:3], images[1]: x[3:]}, **arrays, unread=np.arange(3))
    found = opened("a.npz")
    assert holds(found, x[:3], x[3:])
    assert found.split == f"3 images to train on and 2 to test: the arrays {images[0]} and {images[1]}"
    assert found.classes == (("-1", "5", "700") if labels else None)
    assert [part.tolist() for part in found.labels or ()] == ([[1, 0, 1], [2, 1]] if labels else [])


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_every_tenth_image_is_for_testing_by_the_rule_of_version_0_2(kind):
    images, path = pixels(25, 4, 6), f"mine.{kind}"
    np.save(path, images) if kind == "npy" else np.savez(path, faces=images, labels=np.arange(25) // 2)
    found = in_turn(path)
    assert (found.name, found.shape) == ("mine", (4, 6, 1)) and "every tenth" in found.split
    assert holds(found, np.delete(images, [9, 19], axis=0), images[[9, 19]])
    if kind == "npz":
        assert [found.classes[label] for label in (*found.labels[1], *found.labels[0][8:10])] == ["4", "9", "4", "5"]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_npy_is_read_and_members_that_are_no_arrays_do_not_count(version):
    images, buffer = RNG.random((4, 9)).astype(np.float32), io.BytesIO()
    np.lib.format.write_array(buffer, images, version)
    content = {"x.npy": buffer.getvalue(), "README.txt": b"hello"}
    put({"mine.npy": buffer.getvalue(), "mine.npz": zipped(content)})
    for found in (in_turn("mine.npy"), in_turn("mine.npz")):
        assert holds(found, images[:3], images[3:])


def npy_bytes(shape: tuple[int, ...], body: bytes, descr: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + body


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def npz_of(train: bytes, method: int = zipfile.ZIP_DEFLATED, **more: bytes) -> bytes:
    """A pair whose array to train on is these bytes."""
    members = {"train": train, "test": npy_bytes((1, 4), bytes(4)), **more}
    return zipped({f"{name}.npy": content for name, content in members.items()}, method)


def long_header(version: int, length: int = 40_000_000) -> bytes:
    """An array with a header of 40 MB, of which zip makes 100 kB: no more than deflate can do."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 4)} #" + RNG.bytes(100_000)
    header = header.replace(b"\n", b" ").ljust(length - 1) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<I", length) + header + bytes(8)


def lying_directory(images: int, body: int) -> bytes:
    """An .npz whose directory claims other sizes than it holds."""
    claimed = len(npy_bytes((images, 2000), b"")) + images * 2000
    content = bytearray(npz_of(npy_bytes((images, 2000), bytes(body))))
    entry = content.index(b"PK\1\2")
    content[entry + 20 : entry + 28] = struct.pack("<II", claimed // 900, claimed)
    return bytes(content)


EIGHT = npy_bytes((2, 4), bytes(range(8)))
HOSTILE_NPZ = {
    "empty": b"",
    "text": b"hello",
    "truncated": npz_of(EIGHT)[:-30],
    "a damaged member": npz_of(EIGHT, zipfile.ZIP_STORED).replace(bytes(range(8)), bytes(8)),
    "a shape beyond the data": npz_of(npy_bytes((2**31, 784), bytes(9))),
    "a shape beyond 64 bits": npz_of(npy_bytes((2**40, 2**40), bytes(9))),
    "a shape short of the data": npz_of(npy_bytes((2, 4), bytes(9))),
    "a negative shape": npz_of(npy_bytes((-2, -4), bytes(8))),
    "a bomb": npz_of(npy_bytes((50_000, 784), bytes(39_200_000))),
    "another packing": npz_of(EIGHT, zipfile.ZIP_LZMA),
    "a name of two lines": zipped({"a\nb.npy": b"", "test.npy": EIGHT}),
    "no array": npz_of(b"hello"),
    "a long header of version 2": npz_of(long_header(2)),
    "a long header of version 3": npz_of(long_header(3)),
    "a version to come": npz_of(npy_bytes((2, 4), bytes(8)).replace(b"Y\1", b"Y\4")),
    "an array header of code": npz_of(b"\x93NUMPY\1\0\x20\0{'descr': __import__('os')}     "),
    "a directory that claims too much": lying_directory(2**20, 99),
    "a directory that hides a bomb": lying_directory(50_000, 2000 * 50_000),
}


def test_loading_executes_nothing():
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, ("executed",))

    hostile = np.array([[Bomb()]], dtype=object)
    np.savez("mine.npz", train=hostile, test=hostile)
    np.savez("labels.npz", images=pixels(1, 4), labels=hostile)
    np.save("mine.npy", hostile)
    refuses("mine.npz", "mine.npz", "train.*never unpickled")
    refuses("mine.npy", "mine.npy", "unpickled")
    refuses("labels.npz", "labels.npz", "labels is object")
    assert not Path("executed").exists()


def test_pictures_are_found_in_folders_at_any_depth_among_other_files():
    lay(".", "a/b/c/d/deep.png", "a/top.png", "z.BMP", ".hidden/x.png", "a/.thumbnail.png")
    put({"labels.csv": b"cat,dog", "a/._000.png": b"what a file manager leaves"})
    Path("a/folder.png").mkdir()
    found = in_turn(".")
    assert found.files == (["a/b/c/d/deep.png", "a/top.png"], ["z.BMP"])
    assert levels(found.population) == [0, 1, 2] and found.labels is None  # one picture lies in no folder


@pytest.mark.skipif(os.name != "posix", reason="not everybody may make links on Windows")
def test_links_to_folders_are_followed_but_not_in_a_circle():
    lay("elsewhere", "0.png", "1.png")
    Path("mine").mkdir()
    Path("mine/cats").symlink_to(Path("elsewhere").resolve())
    Path("elsewhere/up").symlink_to(Path("mine").resolve())
    assert folders.find(Path("mine")) == (["cats/0.png", "cats/1.png"], "")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
def test_the_six_formats_are_read(form):
    grey = [np.full((8, 8), level, np.uint8) for level in (40, 200)]
    found = in_turn(save_pictures(".", *grey, form=form))
    assert abs(int(found.train[0, 0]) - 40) <= 2 and abs(int(found.test[0, 0]) - 200) <= 2


def test_pictures_are_grey_only_if_all_are_and_each_is_decoded_once(monkeypatch):
    colour, grey = pixels(3, 3, 3), pixels(3, 3)
    assert in_turn(save_pictures("grey", grey, grey)).shape == (3, 3, 1)
    several = grey, grey, colour, grey, colour
    save_pictures("several", *several)
    decoded, read = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **options: decoded.append(1) or read(*args, **options))
    found = in_turn("several")
    assert found.shape == (3, 3, 3) and len(decoded) == 5
    assert np.array_equal(found.population, [x.repeat(3) if x is grey else x.ravel() for x in several])
    assert "3 of them are grey and are read as RGB" in found.split


def test_the_split_of_pictures_costs_no_second_copy():
    save_pictures(".", *np.zeros((12, 400, 400), np.uint8))
    assert peak(load, ".") < 1.4 * 12 * 400 * 400


HIDDEN = np.array([[[255, 0, 0, 0], [0, 0, 0, 255]], [[0, 0, 255, 0], [40, 80, 120, 51]]], np.uint8)
SEEN = [[255, 255, 255], [0, 0, 0], [255, 255, 255], [212, 220, 228]]  # 40·0.2 + 255·0.8 and so on


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_colour_under_transparency_is_not_seen_and_the_ground_is_white(form):
    found = opened(save_pictures(".", HIDDEN, HIDDEN, form=form, lossless=True, exact=True))
    assert found.shape == (2, 2, 3) and np.abs(found.train.reshape(4, 3).astype(int) - SEEN).max() <= 1


def test_transparency_in_grey_in_palettes_and_as_one_colour_is_white_too():
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 200, 0, 0])
    grey, colour = Image.fromarray(HIDDEN).convert("LA"), Image.fromarray(HIDDEN[..., :3])
    for name, picture, options, expected in (
        ("grey.png", grey, {}, [255, 0, 255]),
        ("palette.gif", palette, {"transparency": 1}, [9, 9, 9, 255, 255, 255]),
        ("colour.png", colour, {"transparency": (255, 0, 0)}, [255, 255, 255, 0, 0, 0]),
    ):
        picture.save(name, **options)
        found, *_ = data.images.read(Path(), [name])
        assert found[0, : len(expected)].tolist() == expected


def test_photographs_are_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    found = opened(save_pictures(".", picture, picture, exif=exif))
    assert found.train.reshape(3, 2).tolist() == [[3, 0], [4, 1], [5, 2]]


def test_pictures_of_two_sizes_need_the_option_size():
    middle = np.zeros((4, 10, 3), np.uint8)
    middle[:, 3:7] = 200  # the square in the middle
    save_pictures(".", middle, np.full((7, 7, 3), 9, np.uint8))
    refuses(".", "2 sizes", "1 of 10 x 4 such as 000.png", "1 of 7 x 7 such as 001.png", "--size")
    found = in_turn(".", size=2)
    assert found.shape == (2, 2, 3) and (found.test == 9).all()
    assert (abs(found.train.astype(int) - 200) < 10).all()  # the filter sees a little beyond the square


@pytest.mark.parametrize("size", [16, 32])
def test_a_jpeg_is_scaled_to_the_same_picture_as_one_that_is_decoded_whole(size):
    high, wide = np.arange(size * 4)[:, None], np.arange(size * 5)
    waves = (127 + 120 * np.sin(high / 3) * np.cos(wide / 4)).astype(np.uint8)
    put({"a.jpg": encoded(waves, "JPEG", quality=95), "b.png": encoded(waves)})
    found = load(".", size=size)
    assert np.abs(found.train.astype(int) - found.test).max() <= 6 and found.train.std() > 30


def png_claiming(width: int, height: int) -> bytes:
    """One pixel under a header of another size."""
    pixel = encoded(np.zeros((1, 1), np.uint8))
    header = b"IHDR" + struct.pack(">II", width, height) + pixel[24:29]
    return pixel[:12] + header + struct.pack(">I", zipfile.crc32(header)) + pixel[33:]


COLOUR = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
BAD_PICTURES = {
    "empty": (b"", "none of PNG"),
    "text": (b"hello", "none of PNG"),
    "cut": (png_claiming(3, 3), "truncated|broken"),
    "too big for its file": (png_claiming(8000, 8000), "truncated|broken"),
    "a bomb": (png_claiming(2**30, 2**30), "bomb"),
}
for form in ("TGA", "ICO", "PCX", "SGI", "JPEG2000", "PDF", "EPS"):  # whose readers may start another program
    BAD_PICTURES[form] = (encoded(COLOUR, form), "none of PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM")


BAD = {
    "train-images-idx3-ubyte": BAD_IDX,
    "arrays.npz": BAD_ARRAYS,
    "mine.npz": {kind: (content,) for kind, content in HOSTILE_NPZ.items()},
    "mine.npy": {"a long header": (long_header(2), "header of 40000000 bytes", "10000")},
    "001.png": BAD_PICTURES,  # no other reader of Pillow is given a file
}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in BAD.items() for kind in kinds])
def test_a_file_that_lies_is_refused_by_name_and_costs_no_memory(name, kind):
    (content, *words), path = BAD[name][kind], Path(name)
    if "idx" in name:
        put({"t10k-images-idx3-ubyte": GOOD})
    if "png" in name:
        save_pictures(".", *pixels(3, 3, 3))
    np.savez(path, **content) if "arrays" in name else path.write_bytes(content)
    assert peak(refuses, path if ".np" in name else ".", name, *words) < (1e6 if "npy" in name else 4e6)


def test_all_broken_pictures_are_named_at_once_and_none_is_passed_over():
    save_pictures(".", *pixels(5, 9, 9), pixels(4, 4))
    whole = Path("003.png").read_bytes()
    put({"001.png": b"", "003.png": whole[: len(whole) // 2]})
    refuses(".", "2 of 6", r"001.png \(.*PNG", r"003.png \(.*truncated", "delete them or move them")
    Path("001.png").unlink()
    Path("003.png").unlink()
    refuses(".", "3 of 9 x 9", "1 of 4 x 4")
    Path("005.png").unlink()
    assert in_turn(".").files == (["000.png", "002.png"], ["004.png"])
    put({f"{i}.png": b"" for i in range(100, 140)})
    refuses(".", "40 of 43", "100.png", "119.png", "and 20 more")


def read_pictures(path: Path) -> None:
    put({"001.png": path.read_bytes()})
    opened(".", size=4)


LABELS = mutations(npy_bytes((3,), bytes(3))).map(lambda content: npz_of(EIGHT, zipfile.ZIP_STORED, labels=content))
STORED = mutations(EIGHT).map(lambda content: npz_of(content, zipfile.ZIP_STORED))
FORMS = st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
ANY = {
    "file": (mutations(GOOD) | mutations(gzip.compress(GOOD, mtime=0)), idx.read_idx),
    "mine.npz": (mutations(npz_of(EIGHT)) | mutations(EIGHT) | STORED | LABELS, opened),
    "000.png": (FORMS.flatmap(lambda form: mutations(encoded(COLOUR, form))), read_pictures),
}


@pytest.mark.parametrize("name", ANY)
@CASES
def test_any_bytes_are_read_or_a_data_error_that_names_the_file(name, cases):
    (contents, read), path = ANY[name], Path(name)

    def attempt(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read(path)
        except DataError as error:
            assert name in str(error)

    for_all(cases, contents, attempt)


def test_a_picture_or_a_folder_is_brought_to_a_models_shape_without_a_split():
    left, picture = np.zeros((4, 8, 3), np.uint8), pixels(5, 7, 3)
    left[:, :4] = (200, 100, 50)
    lay(".", "train/0.png", "test/1.png")
    put({"train/wide.png": encoded(left), "same.png": encoded(picture)})
    found, names = images_at(".", (2, 2, 3))
    assert names == ["same.png", "test/1.png", "train/0.png", "train/wide.png"] and found.dtype == np.uint8
    assert found[1:3].tolist() == [[101] * 12, [100] * 12]
    wide = found[3].reshape(2, 2, 3)[:, 0].astype(int)
    assert np.abs(wide - (200, 100, 50)).max() < 60  # the filter sees the middle
    found, names = images_at(Path("train/wide.png"), (4, 8, 1))
    assert names == ["wide.png"] and np.array_equal(found[0].reshape(4, 8)[:, :4], np.full((4, 4), 124))
    assert np.array_equal(images_at("same.png", (5, 7, 3))[0], picture.reshape(1, -1))


@pytest.mark.parametrize("save", [np.uint8, np.float32])
def test_arrays_of_a_models_shape_are_read_whole(save):
    train, test = pixels(3, 4, 6), pixels(2, 4, 6)
    if save is np.float32:
        train, test = (array / np.float32(255) for array in (train, test))
    np.savez("a.npz", x_train=train, x_test=test, y_train=np.arange(3), y_test=np.arange(2))
    np.save("one.npy", train[:1].reshape(1, -1))
    found, names = images_at("a.npz", (4, 6, 1))
    assert found.dtype == save and np.array_equal(found, np.concatenate([train, test]).reshape(5, 24))
    assert names == ["x_train/0", "x_train/1", "x_train/2", "x_test/0", "x_test/1"]
    found, names = images_at("one.npy", (4, 6, 1))
    assert np.array_equal(found, train[:1].reshape(1, 24)) and names == ["images/0"]
    for shape in ((6, 4, 1), (4, 6, 3), (5, 5, 1)):
        with refused("a.npz", r"shape \(3, 4, 6\)", "expected .N, " + str(shape)[1:-1]):
            images_at("a.npz", shape)


def test_a_name_gives_its_test_images_and_idx_files_give_all(small_mnist):
    lay_out(small_mnist, "mnist")
    test = np.frombuffer(small_mnist["t10k-images-idx3-ubyte"][16:], np.uint8).reshape(4, 784)
    found, names = images_at("mnist", (28, 28, 1), Path(), download=False)
    assert np.array_equal(found, test) and names == ["test/0", "test/1", "test/2", "test/3"]
    found, names = images_at("./mnist", [28, 28, 1])  # as JSON gives a shape back
    assert found.shape == (10, 784) and np.array_equal(found[6:], test) and names[5:7] == ["train/5", "test/0"]
    with refused("mnist", r"expected \(N, 32, 32, 3\)", r"shape \(4, 28, 28, 1\)"):
        images_at("mnist", (32, 32, 3), Path(), download=False)


def test_what_holds_no_images_is_refused():
    Path("empty").mkdir()
    put({"a.txt": b"hello", "b.png": b"hello"})
    assert "found 0" in refuses("empty", "at least two pictures")
    refuses(save_pictures("one", *pixels(1, 4, 4)), "at least two pictures", "found 1")
    reasons = {"empty": "found none", "a.txt": "npz", "b.png": "none of PNG", "nothing": "no file, folder or data set"}
    for name, words in reasons.items():
        with refused(name, words):
            images_at(name, (2, 2, 1))
    refuses("nonesuch", "nonesuch", "mnist-10k, digits, mnist, cifar10", "npz")


@pytest.mark.parametrize(
    ("name", "counts", "means"),
    [("mnist", (60_000, 10_000), [0.1307]), ("cifar10", (50_000, 10_000), [0.4914, 0.4822, 0.4465])],
)
def test_the_real_files_are_verified_and_have_the_published_means(name, counts, means):
    try:
        found = opened(name, data_dir=DEFAULT, download=False)
    except DataError as error:
        pytest.skip(f"{name} is not in $TAMING_VAES_DATA: {error}")
    assert (len(found.train), len(found.test)) == counts
    mean = found.train.reshape(-1, 1024 if name == "cifar10" else 784, len(means)).mean((0, 1)) / 255
    assert np.allclose(mean, means, atol=1e-4)
