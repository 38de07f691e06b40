"""The peers' side of the training steps: PyTorch in eager mode, with its defaults."""

from __future__ import annotations

from functools import partial
from itertools import cycle

import torch
from contestant import Case
from inputs import given
from shapes import TRAINING_BATCHES
from torch.nn.functional import cross_entropy
from torch_networks import Straightened, tutorial_localization

RATE = 1e-4  # slow, so that none of the trainings goes astray in a long contest


def pytorch(batch_size: int) -> Case:
    network = Straightened(tutorial_localization()).train()
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    images, labels = torch.from_numpy(given("images")).permute(0, 3, 1, 2), torch.from_numpy(given("labels"))
    whole = len(images) // batch_size * batch_size
    batches = cycle(zip(images[:whole].split(batch_size), labels[:whole].split(batch_size), strict=True))

    def step() -> None:
        some, their_labels = next(batches)
        optimizer.zero_grad()
        cross_entropy(network(some), their_labels).backward()
        optimizer.step()

    return step, batch_size


CASES = {f"pytorch {size}": partial(pytorch, size) for size in TRAINING_BATCHES}
