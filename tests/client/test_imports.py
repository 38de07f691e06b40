"""The SDK stands alone: it imports and works where TensorFlow, Ray and the service's packages cannot be imported."""

import subprocess
import sys
from pathlib import Path

import stn_client

PROGRAM = """
import sys

FOREIGN = {"tensorflow", "tf_keras", "keras", "ray", "fastapi", "starlette", "imgaug", "cv2", "PIL", "services",
           "pandas", "matplotlib", "scipy"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FOREIGN:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import numpy as np
import stn_client

with stn_client.Client("http://127.0.0.1:9") as client:
    assert client.server_ready() is False
    try:
        client.predict(np.zeros((0, 28, 28), np.uint8))
    except stn_client.BadTensor:
        pass
found = {name.partition(".")[0] for name in sys.modules} & FOREIGN
assert not found, found
print("alone")
"""


def test_imports_without_tensorflow_and_ray() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "alone\n", done.stderr


def test_everything_exported_is_there_and_sorted() -> None:
    assert stn_client.__all__ == sorted(stn_client.__all__)
    for name in stn_client.__all__:
        assert getattr(stn_client, name).__name__ == name


def test_type_checkers_are_told_that_it_is_typed() -> None:
    assert (Path(stn_client.__file__).parent / "py.typed").exists()
