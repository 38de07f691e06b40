"""A folder of IDX files as a data set, and images brought to another size or number of channels."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stn_core.datasets import Dataset, load
from stn_core.datasets.fitting import fitted
from stn_core.datasets.idx import read_idx
from stn_core.errors import BadData

FOUR = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(values: Any) -> bytes:
    array = np.asarray(values, np.uint8)
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def images_of(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(count).integers(0, 255, (count, 18, 17), np.uint8)


def write_set(folder: Path, names: tuple[str, ...] = FOUR) -> Path:
    folder.mkdir(exist_ok=True)
    contents = (images_of(40), np.arange(40) % 4, images_of(8), np.arange(8) % 4)
    for name, content in zip(names, contents, strict=False):
        (folder / name).write_bytes(gzip.compress(idx(content)) if name.endswith(".gz") else idx(content))
    return folder


@pytest.mark.parametrize(
    "names",
    [FOUR, tuple(f"{name}.gz" for name in FOUR), tuple(f"emnist-{name.replace('-idx', '.idx')}.gz" for name in FOUR)],
    ids=["plain", "packed", "with a prefix and dots"],
)
def test_a_set_in_the_usual_names(names: tuple[str, ...], tmp_path: Path) -> None:
    splits = load(str(write_set(tmp_path / "set", names)))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [36, 4, 8]
    np.testing.assert_array_equal(splits.test.images[..., 0], images_of(8))
    assert splits.test.labels.tolist() == [0, 1, 2, 3] * 2
    assert splits.classes == ("0", "1", "2", "3")
    assert splits.train.name == "set"


def test_without_a_test_set_one_is_taken_out_and_names_are_read(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", FOUR[:2])
    (folder / "classes.txt").write_text("a\nb\n\n c \nä\n", "utf-8")
    splits = load(str(folder), size=(20, 22), channels=3)
    assert splits.classes == ("a", "b", "c", "ä")
    assert len(splits.test) == 4
    assert splits.image_shape == (20, 22, 3)
    (folder / "classes.txt").write_text("a\nb\n")
    with pytest.raises(BadData, match=r"expected labels from 0 to 1"):
        load(str(folder))


def test_the_unpacked_file_comes_before_the_packed(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    (folder / f"{FOUR[0]}.gz").write_bytes(b"no gzip at all")
    assert load(str(folder)).image_shape == (18, 17, 1)


HEAD = bytes([0, 0, 8, 3])
BROKEN = {
    "text": (b"hello world", "begins with two zero bytes, got 68 65 6c 6c"),
    "empty": (b"", "got nothing"),
    "floats": (bytes([0, 0, 13, 3]) + bytes(12), r"unsigned bytes \(type 08\) in 3 or 4 dimensions, got type 0d in 3"),
    "labels": (idx([1, 2, 3]), "got type 08 in 1"),
    "a header cut": (HEAD + bytes(5), "ends within its header"),
    "values cut": (idx(images_of(3))[:-1], "expected 918 bytes of values, got 917"),
    "values too many": (idx(images_of(3)) + b"x", "expected 918 bytes of values, got more"),
    "a huge header": (HEAD + b"\xff" * 12, "at most 2,147,483,648 bytes"),
    "no images": (idx(np.zeros((0, 5, 5))), "none of them 0"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_says_what_is_wrong_with_it(case: str, tmp_path: Path) -> None:
    content, message = BROKEN[case]
    folder = write_set(tmp_path / "set")
    (folder / FOUR[0]).write_bytes(content)
    with pytest.raises(BadData, match=message) as caught:
        load(str(folder))
    assert "set" in str(caught.value)


def test_a_broken_gzip_and_a_bomb_are_refused(tmp_path: Path) -> None:
    packed = gzip.compress(idx(images_of(30)))
    for name, content in {
        "cut.gz": packed[: len(packed) // 2],
        "damaged.gz": packed[:60] + b"\0" * 20 + packed[80:],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadData, match=f"{name}: cannot be read"):
            read_idx(tmp_path / name, (3,))
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(idx(images_of(1)) + bytes(50_000_000)))
    with pytest.raises(BadData, match="expected 306 bytes of values, got more"):
        read_idx(tmp_path / "bomb.gz", (3,))


def test_a_set_that_is_not_whole_says_what_is_missing(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    (folder / FOUR[3]).unlink()
    with pytest.raises(BadData, match="IDX files of test-labels too"):
        load(str(folder))
    (folder / FOUR[0]).unlink()
    with pytest.raises(BadData, match="test-labels and train-images too, found only"):
        load(str(folder))
    write_set(folder)
    write_set(folder, tuple(f"other-{name}" for name in FOUR))
    with pytest.raises(BadData, match=r"one IDX set, found \['', 'other-'\]"):
        load(str(folder))
    with pytest.raises(BadData, match=f"give the folder they lie in, {folder}"):
        load(str(folder / FOUR[0]))


# --- another size, other channels


def test_arrays_are_resized_as_pictures_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (30, 24, 20, 3), np.uint8)
    np.savez(tmp_path / "own.npz", x_train=images, y_train=np.arange(30) % 3, x_test=images[:3], y_test=np.arange(3))
    splits = load(str(tmp_path / "own.npz"), size=(16, 32))
    expected = np.asarray(Image.fromarray(images[1]).resize((32, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(splits.test.images[1], expected)
    floats = fitted(Dataset("own", images.astype(np.float32) / 255, np.zeros(30, np.int64), ("a",)), (16, 32), None)
    assert floats.images.dtype == np.float32
    np.testing.assert_allclose(floats.images[1] * 255, expected, atol=1.0)


def test_channels_are_made_and_merged() -> None:
    data = Dataset("own", np.full((2, 4, 4, 3), (255, 0, 0), np.uint8), np.zeros(2, np.int64), ("a",))
    gray = fitted(data, None, 1)
    assert gray.images.shape == (2, 4, 4, 1)
    assert (gray.images == 76).all()  # the luma of pure red
    assert fitted(gray, None, 3).images.shape == (2, 4, 4, 3)
    assert fitted(data, (4, 4), 3) is data
    with pytest.raises(BadData, match="images of 4 channels"):
        fitted(Dataset("own", np.zeros((2, 4, 4, 4), np.uint8), np.zeros(2, np.int64), ("a",)), None, 3)
    with pytest.raises(BadData, match=r"expected 1 \(gray\) or 3 \(colour\) channels, got 2"):
        load("anything", channels=2)


def test_how_much_of_the_border_is_unlike_a_fill() -> None:
    images = np.zeros((3, 6, 6, 1), np.uint8)
    images[:, 0] = 255
    data = Dataset("own", images, np.zeros(3, np.int64), ("a",))
    assert data.border_unlike(1.0) == pytest.approx(16 / 24)  # of four sides of 6 px, corners twice
    assert data.border_unlike(0.0) == pytest.approx(8 / 24)
    assert data.border_unlike(0.05) == pytest.approx(8 / 24)
