"""Results as rows, parts, tables and pictures."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from stn_client.results import Augmentation, Classification, Prediction, Rectification, Warping

from stn_core.errors import BadTensor, StnError, Unsupported

ERROR = BadTensor("images: no picture")


def prediction() -> Prediction:
    return Prediction(
        label=np.array([3, -1, 5]),
        probabilities=np.array([[0.25, 0.75], [np.nan, np.nan], [1, 0]], np.float32),
        theta=np.arange(18, dtype=np.float32).reshape(3, 2, 3),
        rectified=np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
        index=range(10, 13),
        errors={11: ERROR},
    )


def test_a_result_has_rows() -> None:
    result = prediction()
    assert len(result) == 3
    row = result[2]
    assert row.label == 5
    assert row.index == 12
    assert row.error is None
    assert row.theta.shape == (2, 3)
    assert np.array_equal(row.rectified, [[8, 9], [10, 11]])
    assert result[-1].label == 5
    assert [one.label for one in result] == [3, -1, 5]
    assert [one.error for one in result] == [None, ERROR, None]
    assert {"error", "index", "label", "rectified"} <= set(dir(row))
    assert repr(row) == "<row 2 of a Prediction of 3>"


def test_what_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError):
        prediction()[3]
    for name in ("exact", "to_pandas", "_hidden", "errors_"):
        with pytest.raises(AttributeError, match=f"a row of a result has no '{name}'"):
            getattr(prediction()[0], name)


def test_a_part_keeps_its_places_and_errors() -> None:
    part = prediction()[1:]
    assert isinstance(part, Prediction)
    assert (len(part), part.index, part.errors) == (2, range(11, 13), {11: ERROR})
    assert prediction()[2:].errors == {}
    assert [row.index for row in prediction()[::-2]] == [12, 10]


def test_results_travel_between_processes() -> None:
    again = pickle.loads(pickle.dumps(prediction()))
    assert np.array_equal(again.label, prediction().label)
    assert str(again.errors[11]) == str(ERROR)
    assert pickle.loads(pickle.dumps(prediction()[2])).label == 5


def test_a_table_has_a_column_for_each_number() -> None:
    pandas = pytest.importorskip("pandas")
    table = prediction().to_pandas()
    assert list(table.index) == [10, 11, 12]
    assert list(table.columns) == [
        *("label", "probability", "probabilities_0", "probabilities_1"),
        *("theta_0_0", "theta_0_1", "theta_0_2", "theta_1_0", "theta_1_1", "theta_1_2", "error"),
    ]
    assert table.label.tolist() == [3, -1, 5]
    assert table.probability.tolist()[::2] == [0.75, 1]
    assert pandas.isna(table.probability[11])
    assert table.theta_1_0[12] == 15
    assert table.error[11] == "images: no picture"
    assert pandas.isna(table.error[10])
    assert "error" not in prediction()[2:].to_pandas().columns


def test_every_result_makes_a_table() -> None:
    pytest.importorskip("pandas")
    images, theta = np.zeros((2, 4, 4), np.uint8), np.zeros((2, 16, 2))
    tables = [
        Rectification(images, theta, index=range(2)).to_pandas(),
        Classification(np.zeros(2, int), np.zeros((2, 0), np.float32), index=range(2)).to_pandas(),
        Warping(images, index=range(2)).to_pandas(),
        Augmentation(images, theta, None, np.ones(2, bool), (), index=range(2)).to_pandas(),
    ]
    assert [table.shape for table in tables] == [(2, 32), (2, 2), (2, 0), (2, 33)]


@pytest.mark.parametrize(
    ("shape", "dtype", "mode"),
    [
        ((2, 4, 5), np.uint8, "L"),
        ((2, 4, 5, 1), np.uint8, "L"),
        ((2, 4, 5, 3), np.uint8, "RGB"),
        ((2, 4, 5, 4), np.uint8, "RGBA"),
        ((2, 4, 5, 3), np.float32, "RGB"),
    ],
)
def test_images_become_pictures(shape: tuple[int, ...], dtype: type, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    images = pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)
    for result in (Warping(images, index=range(2)), Rectification(images, np.zeros((2, 2, 3)), index=range(2))):
        pictures = result.to_pil()
        assert [picture.mode for picture in pictures] == [mode, mode]
        assert np.array_equal(np.stack([np.asarray(picture) for picture in pictures]), pixels.squeeze())
        assert np.array_equal(np.asarray(result[1].to_pil()), pixels[1].squeeze())


def test_what_has_no_image_gives_no_picture() -> None:
    assert [picture is None for picture in prediction().to_pil()] == [False, True, False]
    with pytest.raises(Unsupported, match="a Classification has no images"):
        Classification(np.zeros(1, int), np.zeros((1, 2)), index=range(1)).to_pil()
    with pytest.raises(BadTensor, match="expected images of 1, 3 or 4 channels, got 2"):
        Warping(np.zeros((1, 3, 3, 2), np.uint8), index=range(1)).to_pil()


PROGRAM = """
import sys
sys.modules["pandas"] = sys.modules["PIL"] = None
import numpy as np
from stn_client import StnError, Warping

for method in ("to_pandas", "to_pil"):
    try:
        getattr(Warping(np.zeros((1, 2, 2), np.uint8), index=range(1)), method)()
    except StnError as error:
        print(error)
"""


def test_a_missing_library_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    pandas, pillow = done.stdout.splitlines()
    assert pandas == "to_pandas needs pandas, which is not installed: pip install pandas"
    assert pillow == "to_pil needs Pillow, which is not installed: pip install pillow"


def test_errors_in_a_result_are_typed() -> None:
    assert isinstance(prediction().errors[11], StnError)
