"""``stn train`` on data of one's own, as a new user would have it: real trainings, of a few steps."""

from __future__ import annotations

import gzip
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tf_keras
from numpy.typing import NDArray
from PIL import Image

from stn_cli.main import run
from stn_core.bundle import read_manifest
from stn_core.classifiers import build_classifier
from stn_core.engine import Engine

SHORT = ("--recipe", "rotation", "--localization", "small", "--steps", "3", "--batch-size", "8")
Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class Outcome:
    code: object
    out: str
    err: str


Stn = Callable[..., Outcome]


@pytest.fixture
def stn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stn:
    """The command's entry point, run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["stn", *arguments])
        with pytest.raises(SystemExit) as left:
            run()
        captured = capsys.readouterr()
        return Outcome(left.value.code or 0, captured.out, " ".join(captured.err.split()))

    return call


def write_folder(root: Path, random: np.random.Generator) -> Path:
    """Colour pictures of three classes and several sizes, one class with one picture, and two files that are none."""
    for name, count in (("many", 14), ("some", 4), ("single", 1)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            height, width = (int(side) for side in random.integers(20, 90, 2))
            pixels = random.integers(0, 255, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    (root / "many" / "torn.png").write_bytes((root / "many" / "1.png").read_bytes()[:80])
    (root / "some" / "text.jpg").write_text("no picture")
    return root


def write_idx(folder: Path, digits: Digits, packed: bool) -> Path:
    """The first 60 and the next 20 digits as the four files of MNIST."""
    folder.mkdir()
    for part, rows in (("train", slice(0, 60)), ("t10k", slice(60, 80))):
        for kind, values in (("images-idx3", digits[0][rows, ..., 0]), ("labels-idx1", digits[1][rows])):
            content = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            content += values.astype(np.uint8).tobytes()
            name = f"{part}-{kind}-ubyte"
            (folder / (name + ".gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return folder


def test_a_folder_of_colour_pictures_with_all_that_can_be_odd_about_it(stn: Stn, tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures", np.random.default_rng(0))
    done = stn("train", "--data", "pictures", "--out", "b", *SHORT)
    assert done.code == 0, done.err
    for said in (
        "px are resized to",
        "the classes are unequal: 12 training images of 'many', 1 of 'single'",
        "1 class has no image in the test set, so nothing tells how well they are read: single",
        "the test set has only 2 images",
        "unlike what the recipe fills with (fill_fraction 0, 0 is black)",
        "2 unreadable files are left out, first",
        "torn.png",
        "serve it with: stn serve --bundle b",
    ):
        assert said in done.out
    engine = Engine.load(tmp_path / "b")
    assert engine.calibration is None, "two validation images are too few"
    height, width, channels = engine.manifest.input_shape
    assert channels == 3
    assert 28 <= max(height, width) <= 64
    assert engine.manifest.classes == ["many", "single", "some"]
    rectified, _ = engine.rectify(np.zeros((2, height, width, 3), np.uint8))
    assert rectified.shape == (2, height, width, 3)
    assert engine.classify(rectified)[1].shape == (2, 3)
    page = (tmp_path / "b.html").read_text()
    assert "many" in page
    assert "data:image/png" in page
    again = stn("evaluate", "--bundle", "b", "--data", "pictures", "--json", "out.json")
    assert again.code in (0, 1), again.err  # 1: three steps may as well collapse
    assert json.loads((tmp_path / "out.json").read_text())["images"] == 2


def test_an_npz_of_tiny_images_needs_a_size(stn: Stn, tmp_path: Path, digits: Digits) -> None:
    images = np.repeat(digits[0][:60, ::4, ::4], 3, axis=3)
    np.savez(tmp_path / "tiny.npz", images=images, labels=digits[1][:60])
    refused = stn("train", "--data", "tiny.npz", "--out", "b", *SHORT)
    assert refused.code == 2
    assert "--size: the images are of 7 x 7 px, and the networks need 16 px a side" in refused.err
    done = stn("train", "--data", "tiny.npz", "--out", "b", "--size", "20x18", "--report", "r/page.html", *SHORT)
    assert done.code == 0, done.err
    assert read_manifest(tmp_path / "b").input_shape == (20, 18, 3)
    assert (tmp_path / "r" / "page.html").is_file()


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_as_mnist_and_its_kin_come(packed: bool, stn: Stn, tmp_path: Path, digits: Digits) -> None:
    write_idx(tmp_path / "idx", digits, packed)
    (tmp_path / "idx" / "classes.txt").write_text("".join(f"digit {number}\n" for number in range(10)))
    done = stn("train", "--data", "idx", "--out", "b", "--channels", "3" if packed else "1", *SHORT)
    assert done.code == 0, done.err
    manifest = read_manifest(tmp_path / "b")
    assert manifest.input_shape == (28, 28, 3 if packed else 1)
    assert manifest.classes[3] == "digit 3"
    assert 45 < manifest.training["images"] < 60  # about a tenth is for validation
    assert "20 test images" in done.out


def _trained(digits: Digits, times: float) -> tf_keras.Model:
    """A small classifier trained on straight digits in 0..``times``, compiled as tutorials do."""
    network = tf_keras.Sequential(
        [
            tf_keras.layers.Input((28, 28, 1)),
            tf_keras.layers.Rescaling(1 / times),
            build_classifier("fc", (28, 28, 1), 10, 0),
            tf_keras.layers.Softmax(),
        ]
    )
    network.compile(tf_keras.optimizers.Adam(2e-3), tf_keras.losses.SparseCategoricalCrossentropy())
    network.fit(digits[0][:1500] * np.float32(times / 255), digits[1][:1500], epochs=3, verbose=0)
    return network


def test_a_classifier_of_ones_own_is_kept(stn: Stn, tmp_path: Path, digits: Digits) -> None:
    np.savez(tmp_path / "digits.npz", images=digits[0][1500:2500], labels=digits[1][1500:2500])
    own = _trained(digits, times=1)
    own.save(tmp_path / "own.keras")
    done = stn("train", "--data", "digits.npz", "--classifier", "own.keras", "--out", "b", *SHORT)
    assert done.code == 0, done.err
    assert "your classifier reads" in done.out
    assert "no more than a guess" not in done.out
    engine = Engine.load(tmp_path / "b")
    assert engine.manifest.classifier_gives == "probabilities"
    assert engine.calibration is not None
    assert engine.decide(digits[0][2500:2510]).decisions.confidence.shape == (10,)
    images = digits[0][2500:2600]
    expected = own(images.astype(np.float32) / 255, training=False).numpy()
    np.testing.assert_allclose(engine.classify(images)[1], expected, atol=1e-5)


def test_a_classifier_of_another_range_is_refused_with_the_layer_that_helps(
    stn: Stn, tmp_path: Path, digits: Digits
) -> None:
    np.savez(tmp_path / "digits.npz", images=digits[0][1500:2500], labels=digits[1][1500:2500])
    own = _trained(digits, times=255)
    own.save(tmp_path / "own.keras")
    command = ("train", "--data", "digits.npz", "--out", "b", "--classifier")
    refused = stn(*command, "own.keras", *SHORT)
    assert refused.code == 2
    assert "right, and " in refused.err
    assert "Rescaling(255, offset=0)" in refused.err
    helped = tf_keras.Sequential(
        [tf_keras.layers.Input((28, 28, 1)), tf_keras.layers.Rescaling(255, offset=0), tf_keras.models.clone_model(own)]
    )
    helped.layers[-1].set_weights(own.get_weights())
    helped.save(tmp_path / "helped.keras")
    assert stn(*command, "helped.keras", *SHORT).code == 0


def test_a_training_goes_on_from_its_checkpoints(stn: Stn, tmp_path: Path, digits: Digits) -> None:
    np.savez(tmp_path / "digits.npz", images=digits[0][:200], labels=digits[1][:200])
    command = ("train", "--data", "digits.npz", "--checkpoints", "saved", *SHORT)
    assert stn(*command, "--out", "one").code == 0
    assert stn(*command, "--out", "two").code == 0
    one, two = (Engine.load(tmp_path / name) for name in ("one", "two"))
    images = np.random.default_rng(0).integers(0, 255, (4, 28, 28, 1), np.uint8)
    np.testing.assert_allclose(one.localize(images), two.localize(images), atol=1e-6)
    other = stn(*command, "--out", "three", "--seed", "5")
    assert other.code == 2
    assert "another plan or other data" in other.err
    assert not (tmp_path / "three").exists()


MISTAKES = {
    "a report in the bundle": (["--report", "b/page.html"], "--report: expected a place outside of the bundle b"),
    "a report of no page": (["--report", "page.pdf"], "--report: expected the name of an .html file"),
    "checkpoints in the bundle": (["--checkpoints", "b/saved"], "--checkpoints: expected a place outside"),
    "checkpoints in a file": (["--checkpoints", "a-file"], "--checkpoints: a-file is no folder"),
    "logs in a file": (["--log-dir", "a-file"], "--log-dir: a-file is no folder"),
    "one class": (["--data", "one-class"], "at least 2 classes, found the class 'cats' alone"),
    "no pictures": (["--data", "no-pictures"], "no image in them"),
    "one of the IDX files": (["--data", "idx/train-images-idx3-ubyte"], "give the folder they lie in, idx"),
    "IDX files cut short": (["--data", "idx"], "so expected 1,568 bytes of values, got 2"),
    "channels first": (["--data", "first.npz"], "give np.moveaxis(images, 1, -1)"),
    "a damaged npz": (["--data", "damaged.npz"], "expected an .npz file (numpy.savez)"),
    "a size for data that has one": (["--data", "sample", "--size", "20x20"], "--size: sample comes as it is"),
    "an unknown classifier": (["--classifier", "resnet"], "or the .keras file of your own"),
    "a classifier in another format": (["--classifier", "own.h5"], "save('name.keras') writes; got 'own.h5'"),
    "no classifier": (["--classifier", "own.keras"], "own.keras: expected a .keras file saved by tf_keras"),
    "a classifier of Keras 3": (["--classifier", "three.keras"], "got one saved by Keras 3"),
    "a classifier of other classes": (["--classifier", "seven.keras"], "expected the classifier's 7 classes"),
    "a classifier to train": (["--classifier", "seven.keras", "--classifier-steps", "9"], "stays as it is"),
    "small images for the paper's": (["--data", "small.npz", "--classifier", "paper"], "the networks need 24 px"),
}


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the mistakes name."""
    import keras

    root = tmp_path_factory.mktemp("odd")
    (root / "a-file").write_text("")
    for folder in ("one-class/cats", "no-pictures/cats", "idx"):
        (root / folder).mkdir(parents=True)
    for number in range(5):
        Image.new("RGB", (30, 30), (number, 0, 0)).save(root / "one-class" / "cats" / f"{number}.png")
    for kind, head in (
        ("images-idx3", b"\0\0\x08\3\0\0\0\2\0\0\0\x1c\0\0\0\x1c"),
        ("labels-idx1", b"\0\0\x08\1\0\0\0\2"),
    ):
        (root / "idx" / f"train-{kind}-ubyte").write_bytes(head + b"\0\1")
    labels = np.arange(30) % 2
    np.savez(root / "first.npz", images=np.zeros((30, 3, 28, 28), np.uint8), labels=labels)
    np.savez(root / "small.npz", images=np.zeros((30, 20, 20), np.uint8), labels=labels)
    (root / "damaged.npz").write_bytes((root / "small.npz").read_bytes()[:500])
    build_classifier("fc", (28, 28, 1), 7).save(root / "seven.keras")
    three = keras.Sequential([keras.layers.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras 3 and NumPy 2.x disagree on how to copy
        three.save(root / "three.keras")
    return root


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_before_the_training_in_one_clear_line(
    mistake: str, stn: Stn, odd_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(odd_files)
    arguments, message = MISTAKES[mistake]
    data = () if "--data" in arguments else ("--data", "sample")
    refused = stn("train", "--out", "b", *data, *arguments, *SHORT)
    assert refused.code == 2, refused.out
    assert message in refused.err
    assert "Traceback" not in refused.err
    assert not (odd_files / "b").exists()
