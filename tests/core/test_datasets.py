import os
from pathlib import Path

import numpy as np
import pytest

from stn_core import datasets
from stn_core.datasets import Dataset, Splits, load, mnist
from stn_core.errors import BadData

CHECKOUT = Path(__file__).parents[2]
FULL_SET_FOLDERS = [Path(os.environ.get("STN_DATA", "/nowhere")), CHECKOUT / "../shared/data", CHECKOUT / "data"]


def full_set(name: str) -> Path:
    for folder in FULL_SET_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"{name} is not on this machine")


@pytest.fixture
def no_data_here(tmp_path, monkeypatch):
    """A machine that has no data file anywhere: another home, another working folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STN_DATA", raising=False)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    return tmp_path


@pytest.fixture(scope="module")
def sample() -> Splits:
    return load("sample")


def keys(dataset: Dataset) -> set[bytes]:
    return {image.tobytes() for image in dataset.images}


def save_npz(path: Path, **arrays: object) -> str:
    np.savez(path, **arrays)
    return str(path)


# --- the sample


def test_the_sample_is_real_digits_divided_without_overlap(sample):
    parts = (sample.train, sample.validation, sample.test)
    assert [len(part) for part in parts] == [4000, 500, 500]
    assert [np.bincount(part.labels).tolist() for part in parts] == [[400] * 10, [50] * 10, [50] * 10]
    assert sum(len(keys(part)) for part in parts) == len(set().union(*map(keys, parts))) == 5000
    assert sample.image_shape == (28, 28, 1)
    assert sample.classes == tuple("0123456789")
    assert sample.train.images.dtype == np.uint8
    assert sample.train.images.max() == 255


def test_a_seed_divides_the_same_way_every_time_and_another_differently(sample):
    again, other = load("sample", seed=0), load("sample", seed=1)
    assert np.array_equal(sample.test.images, again.test.images)
    assert not np.array_equal(sample.test.images, other.test.images)


def test_a_limit_keeps_every_class_in_its_share(sample):
    limited = sample.train.limit(200)
    assert np.bincount(limited.labels).tolist() == [20] * 10
    assert len(sample.train.limit(3)) == 10  # one of each class at the least
    assert sample.train.limit(None) is sample.train.limit(4000) is sample.train
    with pytest.raises(BadData, match="at least one"):
        sample.train.limit(0)


# --- MNIST and cluttered MNIST


def test_full_mnist_validates_on_the_sample_and_tests_on_its_own_test_set(sample):
    file = full_set("mnist.npz")
    splits = load("mnist", path=file)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [55_000, 5_000, 10_000]
    whole_sample = datasets.sample_digits()
    assert keys(splits.validation) == keys(whole_sample)
    assert not keys(splits.train) & keys(splits.validation)
    assert not keys(splits.test) & (keys(splits.train) | keys(splits.validation))
    labels = {image.tobytes(): label for image, label in zip(whole_sample.images, whole_sample.labels, strict=True)}
    assert all(
        labels[i.tobytes()] == k for i, k in zip(splits.validation.images, splits.validation.labels, strict=True)
    )
    by_path = load(str(file))
    assert np.array_equal(by_path.train.images, splits.train.images)


def test_cluttered_mnist_is_40x40_floats():
    splits = load("cluttered-mnist", path=full_set("cluttered_mnist.npz"))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [10_000, 1_000, 1_000]
    assert splits.image_shape == (40, 40, 1)
    assert splits.train.images.dtype == np.float32
    assert splits.train.images.max() <= 1.0
    # Rows stay rows: a digit is a connected stroke, so neighbours in both directions resemble each other.
    across, down = (np.abs(np.diff(splits.test.images, axis=axis)).mean() for axis in (2, 1))
    assert 0.7 < across / down < 1.4


def test_files_are_found_by_environment_variable_and_working_folder(no_data_here, monkeypatch):
    kept = no_data_here / "kept"
    kept.mkdir()
    (kept / "cluttered_mnist.npz").write_bytes(b"")
    assert mnist.find_file(mnist.CLUTTERED_FILES) is None
    monkeypatch.setenv("STN_DATA", str(kept))
    assert mnist.find_file(mnist.CLUTTERED_FILES) == kept / "cluttered_mnist.npz"
    monkeypatch.delenv("STN_DATA")
    shared = no_data_here / "a" / "shared" / "data"
    shared.mkdir(parents=True)
    (shared / "cluttered_mnist.npz").write_bytes(b"")
    assert mnist.find_file(mnist.CLUTTERED_FILES) == Path("../shared/data/cluttered_mnist.npz")


@pytest.mark.parametrize("source", ["mnist", "cluttered-mnist"])
def test_data_that_is_nowhere_says_where_it_was_looked_for(no_data_here, source):
    with pytest.raises(BadData, match=r"not here") as caught:
        load(source, download=False)
    message = str(caught.value)
    assert all(part in message for part in ("STN_DATA", ".keras", "../shared/data", "sample"))


def test_a_download_without_network_is_explained(no_data_here, monkeypatch):
    import tf_keras

    def fail() -> None:
        raise Exception("URL fetch failure on https://somewhere: None -- name resolution")

    monkeypatch.setattr(tf_keras.datasets.mnist, "load_data", fail)
    with pytest.raises(BadData, match=r"download failed: URL fetch failure.*Looked for mnist\.npz"):
        load("mnist")


def test_a_downloaded_file_is_read_from_the_keras_cache(no_data_here, monkeypatch):
    import tf_keras

    kept = no_data_here / "home" / ".keras" / "datasets"
    (no_data_here / "home").mkdir()

    def fetch() -> None:
        kept.mkdir()
        save_npz(kept / "mnist.npz", x_train=np.zeros((3, 28, 28), np.uint8), y_train=np.arange(3))

    monkeypatch.setattr(tf_keras.datasets.mnist, "load_data", fetch)
    with pytest.raises(BadData, match="expected MNIST's own"):  # what came is found, and is not taken for MNIST
        load("mnist")


def test_a_path_without_the_file_says_what_was_expected(tmp_path):
    with pytest.raises(BadData, match=r"mnist\.npz.*there is none"):
        load("mnist", path=tmp_path)


def test_another_set_is_not_taken_for_mnist(tmp_path):
    path = tmp_path / "mnist.npz"
    save_npz(
        path,
        x_train=np.zeros((60_000, 28, 28), np.uint8),
        y_train=np.arange(60_000) % 10,
        x_test=np.zeros((10_000, 28, 28), np.uint8),
        y_test=np.arange(10_000) % 10,
    )
    with pytest.raises(BadData, match="expected MNIST's own"):
        load("mnist", path=path)
    assert len(load(str(path)).test) == 10_000  # but it is read as a set of one's own


# --- an npz of one's own


def test_an_npz_of_images_and_labels_is_divided_in_equal_shares(tmp_path, sample):
    path = save_npz(tmp_path / "own.npz", images=sample.test.images[..., 0], labels=sample.test.labels)
    splits = load(path, seed=3)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [400, 50, 50]
    assert np.bincount(splits.test.labels).tolist() == [5] * 10
    assert np.array_equal(splits.test.images, load(path, seed=3).test.images)
    assert splits.origin == path


def test_an_npz_with_names_and_colour(tmp_path):
    images = np.random.default_rng(0).random((30, 8, 9, 3)).astype(np.float64)
    labels = np.array(["cat", "dog", "emu"] * 10)
    splits = load(save_npz(tmp_path / "own.npz", images=images, labels=labels))
    assert splits.classes == ("cat", "dog", "emu")
    assert splits.image_shape == (8, 9, 3)
    assert splits.train.images.dtype == np.float32
    named = load(save_npz(tmp_path / "named.npz", images=images, labels=np.arange(30) % 2, classes=["no", "yes", "?"]))
    assert named.classes == ("no", "yes", "?")


def test_given_splits_are_kept_and_missing_ones_are_made(tmp_path):
    images, labels = np.arange(40 * 16, dtype=np.uint16).reshape(40, 16) % 256, np.arange(40) % 2
    splits = load(
        save_npz(tmp_path / "own.npz", X_train=images, y_train=labels[:, None], x_test=images[:6], Y_test=labels[:6])
    )
    assert len(splits.train) + len(splits.validation) == 40
    assert len(splits.validation) == 4
    assert np.array_equal(splits.test.images.reshape(6, 16), images[:6])
    assert splits.image_shape == (4, 4, 1)


def test_small_classes_reach_the_training_set_first(tmp_path):
    labels = np.array([0] * 20 + [1] + [2, 2] + [3, 3, 3])
    splits = load(save_npz(tmp_path / "own.npz", images=np.zeros((26, 4, 4), np.uint8), labels=labels))
    counts = [np.bincount(part.labels, minlength=4).tolist() for part in (splits.train, splits.validation, splits.test)]
    assert counts == [[16, 1, 1, 1], [2, 0, 0, 1], [2, 0, 1, 1]]


IMAGES, LABELS = np.zeros((12, 4, 4), np.uint8), np.arange(12) % 3
BROKEN = {
    "no known key": ({"pictures": IMAGES}, "expected the arrays .*it holds `pictures`"),
    "half a pair": ({"x_train": IMAGES}, "has `x_train` but not `y_train`"),
    "counts differ": ({"images": IMAGES, "labels": LABELS[:5]}, "one int64 label for each of the 12 images"),
    "empty": ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"integer labels|none of them 0"),
    "a label too large": ({"images": IMAGES, "labels": LABELS, "classes": ["a", "b"]}, "labels from 0 to 1"),
    "a negative label": ({"images": IMAGES, "labels": LABELS - 1}, "label number 0 is -1"),
    "a senseless label": ({"images": IMAGES, "labels": LABELS * 1_000_000}, "the largest label is 2000000"),
    "fractional labels": ({"images": IMAGES, "labels": LABELS / 2}, "expected integer labels"),
    "labels in a matrix": ({"images": IMAGES, "labels": np.eye(12, dtype=int)}, "one label an image"),
    "no square": ({"images": IMAGES.reshape(12, 16)[:, :15], "labels": LABELS}, "15 is no square number"),
    "five dimensions": ({"images": IMAGES[None, ..., None], "labels": LABELS}, r"expected \[N, H, W, C\]"),
    "floats to 255": ({"images": IMAGES + 200.0, "labels": LABELS}, "divide by 255"),
    "NaN": ({"images": IMAGES * np.nan, "labels": LABELS}, "from 0 to 1"),
    "integers to 999": ({"images": IMAGES + np.int32(999), "labels": LABELS}, "from 0 to 255"),
    "words as images": ({"images": IMAGES.astype(str), "labels": LABELS}, "expected numbers"),
    "Python objects": ({"images": IMAGES.astype(object), "labels": LABELS}, "Python objects are refused"),
    "too small to divide": ({"images": IMAGES[:2], "labels": LABELS[:2]}, "too small to divide"),
    "the same name twice": ({"images": IMAGES, "labels": LABELS, "classes": ["a", "a", "b"]}, "different names"),
    "an unknown name": (
        {"images": IMAGES, "labels": LABELS.astype(str), "classes": ["0", "1"]},
        r"names from `classes`.*\['2'\]",
    ),
    "splits of other shapes": (
        {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, :3], "y_test": LABELS},
        "one shape in all splits",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_npz_says_what_is_wrong_with_it(tmp_path, case):
    arrays, expected = BROKEN[case]
    path = save_npz(tmp_path / "own.npz", **arrays)
    with pytest.raises(BadData, match=expected) as caught:
        load(path)
    assert "own" in str(caught.value)


def test_files_that_are_no_npz_are_refused(tmp_path):
    whole = tmp_path / "whole.npz"
    save_npz(whole, images=np.random.default_rng(0).integers(0, 255, (50, 9, 9)), labels=np.arange(50) % 2)
    contents = {
        "text.npz": b"x_train,y_train\n1,2\n",
        "empty.npz": b"",
        "cut.npz": whole.read_bytes()[:2000],
        "damaged.npz": whole.read_bytes().replace(b"\x00\x01", b"\x07\x07"),
        "pickle.npz": b"\x80\x04K\x01.",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadData, match=name):
            load(str(tmp_path / name))
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(BadData, match=r"single \.npy"):
        load(str(tmp_path / "one.npy"))


def test_an_unknown_source_names_the_known_ones():
    with pytest.raises(BadData, match=r"mnits: expected mnist, sample, cluttered-mnist, a folder"):
        load("mnits")
