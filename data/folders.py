"""A folder of pictures: which are read, which are for testing, and what their classes are."""

import os
import re
from collections import Counter
from fnmatch import fnmatch
from itertools import compress
from pathlib import Path

from . import images
from .dataset import Dataset, classified, held_out, safe_name
from .files import DataError, shown

LITTER = ("@eadir", "__macosx", "thumbs.db", "desktop.ini")  # what systems leave, in small letters
# A folder that holds these was written by a run, a comparison, or a model in use.
WRITTEN = ({"config.json", "checkpoint.npz"}, {"comparison.json"}, {"pictures.json", "sheet.png"})
# The names of folders that are a split, in small letters.
SIDES = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SIDES |= dict.fromkeys(("val", "valid", "validation"), "validation")
# Names that only look like a side: train_1, test2017, trainA, val-images, dev, seg_test.
ALIKE = re.compile(
    r"(.*[^A-Za-z])?(?i:(train(?:ing)?)|test(?:ing)?|val|valid|validation|dev|eval|evaluation|hold-?out)"
    r"(?:[-_ .]?(?i:\d+|sets?|data|images?|imgs?|split)|[A-Z]|[-_ .][A-Za-z])?"
)


def load(folder: Path, size: int | None = None, split: str = "shuffled", skip_broken: bool = False) -> Dataset:
    """The pictures in a folder and below it, as data/README.md says. Raises DataError."""
    if size is not None and size < 1:
        raise DataError(f"--size must be at least 1, found {size}")
    pictures, left_out = find(folder)
    if len(pictures) == 1:
        images.read(folder, pictures)  # it may be broken, or hold several pages
    if len(pictures) < 2:
        advice = next(filter(None, map(recipe, sorted(folder.iterdir()))), "")
        kinds = ", ".join(images.EXTENSIONS)
        found = f"{len(pictures)}{left_out}{'; ' * bool(advice)}{advice}"
        raise DataError(f"{folder}: expected at least two pictures ({kinds}) or IDX files, found {found}")
    train, test, rule, classes = divide(folder, pictures, split)
    pixels, shape, greys, broken = images.read(folder, train + test, size and (size, size), None, skip_broken)
    train = [name for name in train if name not in broken]
    test = [name for name in test if name not in broken]
    if not (train and test):
        raise DataError(f"{folder}: no picture is left to train on or to test: {images.listed(broken)}")
    if shape[2] == 3 and greys:
        rule += f"; {greys:,} of them are grey and are read as RGB"
    if broken:
        rule += f"; {len(broken):,} pictures that cannot be read are left out: {images.listed(broken)}"
    known = classified([classes[name] for name in train], [classes[name] for name in test]) if classes else {}
    names = [shown(name) for name in train], [shown(name) for name in test]
    pixels = pixels[: len(train)], pixels[len(train) :]
    return Dataset(safe_name(folder), *pixels, shape, rule + left_out, files=names, **known)


def find(folder: Path) -> tuple[list[str], str]:
    """The pictures in a folder and in all below it, in order; and what is left out, as words."""
    pictures, others, written, seen, errors = [], Counter(), [], set(), []
    for root, folders, files in os.walk(folder, onerror=errors.append, followlinks=True):
        real, here = os.path.realpath(root), Path(root).relative_to(folder)
        ours = any(marks <= {*files} for marks in WRITTEN)
        if ours and real not in seen:
            written.append(here.as_posix())
        if ours or real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(filter(_wanted, folders))
        for name in filter(_wanted, files):
            if name.lower().endswith(images.EXTENSIONS) and os.path.isfile(os.path.join(root, name)):
                pictures.append((here / name).as_posix())
            else:
                others[shown(Path(name).suffix.lower())[:12] or "without extension"] += 1
    if errors:
        raise errors[0]
    said = ""
    if written:
        said += f"; folders that this program has written are left out: {len(written):,}, such as {shown(written[0])}"
    if others:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in others.most_common(5))
        said += f"; other files are not read: {others.total():,} ({kinds}{', …' * (len(others) > 5)})"
    return sorted(pictures, key=lambda name: name.split("/")), said


def _wanted(name: str) -> bool:
    return name[0] != "." and name.lower() not in LITTER


def divide(folder: Path, names: list[str], split: str) -> tuple[list[str], list[str], str, dict[str, str]]:
    """The pictures to train on, those to test, the rule, and the class of each, or {}. Raises DataError.

    Where no level of the tree is the split, `split` is the rule.
    """
    trees = {name: name.split("/")[:-1] for name in names}
    level = _level(folder, [*trees.values()])
    if level is None:
        classes = _classes(trees)
        test, rule = held_out(len(names), split, [*classes.values()] or None)
        return list(compress(names, ~test)), list(compress(names, test)), rule, classes
    sides = {"train": [], "test": [], "validation": [], None: []}
    for name, tree in trees.items():
        sides[SIDES.get(tree[level].lower()) if level < len(tree) else None].append(name)
    train, test = sides["train"], sides["test"] or sides["validation"]
    rule = f"the folders named train and {'test' if sides['test'] else 'validation'}"
    if others := len(names) - len(train) - len(test):
        rule += f"; {others:,} more, elsewhere, are left out"
    below = {name: trees[name][:level] + trees[name][level + 1 :] for name in train + test}
    return train, test, rule, _classes(below)


def _level(folder: Path, trees: list[list[str]]) -> int | None:
    """The level of the tree that is the split: it has a folder train, and test or validation."""
    levels = [Counter(tree[i] for tree in trees if i < len(tree)) for i in range(max(map(len, trees)))]
    given, alike, lone = [], [], []  # levels; names like a split; tests without train
    for i, level in enumerate(levels):
        sides = {SIDES.get(name.lower()) for name in level}
        matches = {name: match for name in sorted(level) if (match := ALIKE.fullmatch(name))}
        tests = [name for name, match in matches.items() if not match[2]]
        if "train" in sides and sides & {"test", "validation"}:
            given.append(i)
        elif tests and len(tests) < len(matches):
            alike += matches
        elif max(level.values()) < len(trees):  # not a folder of all pictures
            lone += [name for name in tests if not matches[name][1]]
    if len(given) > 1:
        found = f"folders named train and test lie at {len(given)} levels of the tree"
        raise DataError(f"{folder}: {found}; rename those that are classes")
    if unclear := alike if given else alike + lone:
        listed = ", ".join(map(shown, unclear[:6]))
        advice = "rename them to train and test, or to other words if they are classes"
        raise DataError(f"{folder}: the names {listed} look like a split; {advice}")
    return given[0] if given else None


def _classes(trees: dict[str, list[str]]) -> dict[str, str]:
    """The class of each picture: its folder at the topmost level, without the split, that has several."""
    for i in range(min(map(len, trees.values()))):
        folders = {tree[i] for tree in trees.values()}
        matches = [ALIKE.fullmatch(name) for name in folders]
        in_parts = all(match and match[2] for match in matches)  # train_1, train_2
        if len(folders) > 1 and not in_parts:
            return {name: shown(tree[i]) for name, tree in trees.items()}
    return {}


def recipe(path: Path) -> str | None:
    """The two lines of Python that make an .npz of another file, from the table in README.md."""
    for row in Path(__file__).with_name("README.md").read_text("utf-8").splitlines():
        if row.startswith("| `*"):
            pattern, *_, read, store = row.split("`")[1::2]
            if fnmatch(path.name.lower(), pattern):
                lines = f"{read}; {store}".replace("'FILE'", repr(str(path)))
                lines = lines.replace("'NEW.npz'", repr(f"{path.name.split('.')[0]}.npz"))
                return f"{path} is not read, but an .npz of its arrays is; in Python: {lines}"
