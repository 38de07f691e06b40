"""Trains a small tf_keras classifier on straight images, as somebody's own would have been, and saves it.

    .venv/bin/python benchmarks/own_data/train_classifier.py fashion mine.keras

It knows nothing of this project but how the images are read: in 0..1, the classes in the order of their names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import tf_keras
from tf_keras import layers

from stn_core.datasets import load, to_float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="what stn train takes as --data")
    parser.add_argument("target", type=Path, help="a .keras file")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    splits = load(arguments.source)
    tf_keras.utils.set_random_seed(1)
    model = tf_keras.Sequential(
        [
            layers.Input(splits.image_shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(len(splits.classes), activation="softmax"),
        ]
    )
    model.compile("adam", tf_keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    train, test = splits.train, splits.test
    model.fit(to_float(train.images), train.labels, batch_size=128, epochs=arguments.epochs, verbose=2)
    accuracy = model.evaluate(to_float(test.images), test.labels, verbose=0)[1]
    print(f"{accuracy:.4f} of the straight test images read right")
    model.save(arguments.target)


if __name__ == "__main__":
    main()
