import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def test_float_images_span_0_to_1(sample):
    images = sample.test.float_images()
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0.0, 1.0)


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


# --- a folder of class folders


def write_digits(root: Path, digits: Dataset, per_class: int = 10, suffix: str = "png") -> Path:
    for label in range(10):
        folder = root / str(label)
        folder.mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.labels == label][:per_class]):
            Image.fromarray(image[..., 0]).save(folder / f"{number}.{suffix}")
    return root


def test_a_folder_of_real_digits_comes_back_bit_for_bit(tmp_path, sample):
    splits = load(str(write_digits(tmp_path / "digits", sample.test)), seed=1)
    assert splits.image_shape == (28, 28, 1)
    assert splits.classes == tuple("0123456789")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [80, 10, 10]
    label_of = {image.tobytes(): label for image, label in zip(sample.test.images, sample.test.labels, strict=True)}
    for part in (splits.train, splits.validation, splits.test):
        assert [label_of[image.tobytes()] for image in part.images] == part.labels.tolist()
    assert splits.skipped == ()


def test_folders_named_by_numbers_are_in_the_order_of_the_numbers(tmp_path):
    for name in ("10", "9", "2", "b", "a"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (4, 4), number).save(tmp_path / name / f"{number}.png")
    assert load(str(tmp_path)).classes == ("2", "9", "10", "a", "b")


def test_train_and_test_folders_are_kept_as_they_are(tmp_path, sample):
    write_digits(tmp_path / "train", sample.train, 20)
    write_digits(tmp_path / "test", sample.test, 3)
    splits = load(str(tmp_path))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [180, 20, 30]
    (tmp_path / "test" / "ten").mkdir()
    with pytest.raises(BadData, match=r"ten: this class is not among those of the training set"):
        load(str(tmp_path))


def test_unreadable_files_are_skipped_and_reported(tmp_path, sample):
    root = write_digits(tmp_path / "digits", sample.test)
    (root / "3" / "torn.png").write_bytes((root / "3" / "0.png").read_bytes()[:60])
    (root / "4" / "words.jpg").write_text("not a picture")
    (root / "4" / "notes.txt").write_text("no image, and no claim to be one")
    splits = load(str(root))
    assert sorted(Path(one.path).name for one in splits.skipped) == ["torn.png", "words.jpg"]
    assert all(one.reason for one in splits.skipped)
    assert "2 unreadable files skipped" in splits.summary()
    assert len(splits.train) == 80


def test_a_class_without_readable_images_is_an_error(tmp_path, sample):
    root = write_digits(tmp_path / "digits", sample.test, 4)
    for file in (root / "7").iterdir():
        file.write_text("broken")
    with pytest.raises(BadData, match=r"none in 7 \(4 files cannot be read"):
        load(str(root))
    for file in root.rglob("*.png"):
        file.write_text("broken")
    with pytest.raises(BadData, match="none of the 40 images can be read"):
        load(str(root))


def test_a_class_with_one_image_trains(tmp_path, sample):
    root = write_digits(tmp_path / "digits", sample.test)
    for file in sorted((root / "5").iterdir())[1:]:
        file.unlink()
    splits = load(str(root))
    assert [(part.labels == 5).sum() for part in (splits.train, splits.validation, splits.test)] == [1, 0, 0]


def test_images_of_several_sizes_need_a_size(tmp_path, sample):
    root = write_digits(tmp_path / "digits", sample.test)
    Image.new("L", (40, 30)).save(root / "0" / "large.png")
    with pytest.raises(BadData, match=r"28x28 and large\.png 30x40"):
        load(str(root))
    assert load(str(root), size=(32, 24)).image_shape == (32, 24, 1)


def test_colour_is_detected_or_asked_for(tmp_path, sample):
    root = write_digits(tmp_path / "digits", sample.test)
    assert load(str(root), channels=3).image_shape == (28, 28, 3)
    red = Image.new("RGB", (28, 28), (255, 0, 0))
    red.save(root / "0" / "red.png")
    assert load(str(root)).image_shape == (28, 28, 3)
    gray = load(str(root), channels=1)
    assert gray.image_shape == (28, 28, 1)
    everything = np.concatenate([gray.train.images, gray.validation.images, gray.test.images])
    assert any((image == 76).all() for image in everything)  # the luma of pure red
    with pytest.raises(BadData, match=r"expected 1 .* or 3"):
        load(str(root), channels=2)


def test_pictures_are_read_as_a_person_sees_them(tmp_path):
    root = tmp_path / "odd"
    (root / "a").mkdir(parents=True)
    image = np.zeros((6, 6), np.uint8)
    image[0, :] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown rotated by 90 degrees clockwise
    Image.fromarray(image).save(root / "a" / "1.png", exif=exif)
    Image.fromarray(image.astype(np.uint16) * 257).save(root / "a" / "2.png")
    clear = np.dstack([image, image, image, np.where(image > 0, 255, 0).astype(np.uint8)])
    clear[1:, :, :3] = 99  # hidden under full transparency
    Image.fromarray(clear).save(root / "a" / "3.png")
    splits = load(str(root))
    everything = [part.images[0, ..., 0] for part in (splits.train, splits.validation, splits.test)]
    assert sum(np.array_equal(one, image) for one in everything) == 2
    assert sum(np.array_equal(one, np.rot90(image, -1)) for one in everything) == 1


def test_folders_that_are_no_data_are_explained(tmp_path):
    with pytest.raises(BadData, match="found no folder in it"):
        load(str(tmp_path))
    Image.new("L", (4, 4)).save(tmp_path / "loose.png")
    with pytest.raises(BadData, match="1 images: put them into folders"):
        load(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadData, match="no image in them"):
        load(str(tmp_path))
