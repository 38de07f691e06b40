"""A folder of class folders as a data set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stn_core.datasets import Dataset, Splits, load
from stn_core.datasets.folder import chosen_size
from stn_core.errors import BadData
from stn_core.pictures import decode_picture as load_pixels
from stn_core.pictures import picture_size


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


def test_images_of_several_sizes_get_one_in_the_middle(tmp_path, sample):
    root = write_digits(tmp_path / "digits", sample.test)
    Image.new("L", (40, 30)).save(root / "0" / "large.png")
    assert load(str(root)).image_shape == (28, 28, 1)
    assert load(str(root), size=(32, 24)).image_shape == (32, 24, 1)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(48, 40)] * 3, None),
        ([(300, 600)] * 3, (32, 64)),
        ([(640, 480), (320, 240), (1280, 960)], (64, 48)),
        ([(10, 10), (12, 12), (11, 11)], (28, 28)),
        ([(1, 900), (1, 901), (1, 902)], (16, 64)),
    ],
)
def test_the_size_chosen_is_the_median_shape_within_what_trains_in_minutes(tmp_path, sizes, expected):
    paths = []
    for number, (height, width) in enumerate(sizes):
        paths.append(tmp_path / f"{number}.png")
        Image.new("L", (width, height)).save(paths[-1])
    (tmp_path / "words.png").write_text("not a picture")
    chosen, note = chosen_size([*paths, tmp_path / "words.png"])
    assert chosen == expected
    assert (f"are resized to {expected[0]} x {expected[1]}; --size chooses another" in note) if expected else not note


def test_a_picture_on_its_side_counts_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (60, 30)).save(tmp_path / "lying.jpg", exif=exif)
    assert picture_size(tmp_path / "lying.jpg") == (60, 30)
    assert load_pixels(tmp_path / "lying.jpg").shape == (60, 30, 1)


def test_what_is_odd_about_the_data_is_said(tmp_path, sample):
    root = write_digits(tmp_path / "digits", sample.test)
    assert load(str(root)).warnings() == ["the test set has only 10 images: its measures are rough"]
    for file in sorted((root / "5").iterdir())[1:]:
        file.unlink()
    (root / "1" / "torn.png").write_bytes(b"PNG")
    Image.new("L", (40, 30)).save(root / "9" / "0.png")
    resized, unequal, unmeasured, few, torn = load(str(root)).warnings()
    assert resized.startswith("the images of 28 x 28 to 30 x 40 px are resized to 28 x 28")
    assert "8 training images of '0', 1 of '5'" in unequal
    assert unmeasured == "1 class has no image in the test set, so nothing tells how well they are read: 5"
    assert "only" in few
    assert torn.startswith("1 unreadable file is left out")
    assert "torn.png" in torn


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
