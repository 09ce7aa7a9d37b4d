"""What integers cost a small network that was trained on Fashion-MNIST.

``python -m cvperf.benchmarks.fashion`` trains it, puts it on integers with and without training
for them, and counts right answers of each plan on the 10,000 test images.
"""

from __future__ import annotations

import argparse
import copy

import torch
from torch import Tensor, nn

import cvperf
from cvperf.benchmarks.fashion_mnist import answers, images_and_labels, train
from cvperf.models.small import SmallCNN


def main() -> None:
    """Trains and counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--more", type=int, default=2, help="epochs of training on integers")
    asked = parser.parse_args()
    torch.manual_seed(0)
    images, labels = images_and_labels("train")
    unseen, truth = images_and_labels("test")

    def report(name: str, fast: nn.Module) -> Tensor:
        found = answers(fast, unseen)
        print(f"{name:40} {(found == truth).double().mean():.2%}", flush=True)
        return found

    start = SmallCNN().to(memory_format=torch.channels_last)
    model = train(start, images, labels, asked.epochs, 2e-3)
    report("float", cvperf.optimize(model))
    more = train(copy.deepcopy(model), images, labels, asked.more, 5e-4)
    report("float, trained on as long as those below", cvperf.optimize(more))
    calibration = list(images[:1024].split(64))
    for bits in (8, 4):
        given = cvperf.Int8Config(calibration=calibration, weight_bits=bits)
        config = cvperf.Int8Config(weight_bits=bits)
        report(f"INT{bits} weights, calibrated", cvperf.optimize(model, given))
        trained = train(cvperf.prepare_qat(model, config), images, labels, asked.more, 5e-4)
        found = report(f"INT{bits} weights, trained", cvperf.optimize(trained, config))
        same = (found == answers(trained, unseen)).double().mean()
        print(f"  the same class as in training on {same:.2%}", flush=True)


if __name__ == "__main__":
    main()
