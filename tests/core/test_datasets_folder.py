"""A folder of class folders as a data set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stn_core.datasets import Dataset, Splits, load
from stn_core.errors import BadData


@pytest.fixture(scope="module")
def sample() -> Splits:
    return load("sample")


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
