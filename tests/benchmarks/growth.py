"""How AdaFisher's cost over SGD's grows with the batch, the width and the depth of a network."""

from functools import partial

from optimizers import REGISTRY
from tests.benchmarks.pairs import Figure, ratios
from tests.benchmarks.training import Trainer, plain_cnn

BASE = {"batch": 32, "width": 32, "depth": 8}
VALUES = {"batch": (8, 32, 128), "width": (8, 32, 128), "depth": (2, 8, 32)}
IMAGE_SIZE = 16


def run(num_pairs: int, device: str, names: list[str]) -> None:
    """Print a table: one dimension varies, the others stay."""
    print(f"Convolution, BatchNorm, ReLU; images of {IMAGE_SIZE} x {IMAGE_SIZE}; {num_pairs} pairs a point")
    print("| batch | width | depth | SGD, ms a step | refresh step over SGD's | plain step over SGD's |")
    print("|---|---|---|---|---|---|")
    points = [BASE | {key: value} for key, values in VALUES.items() for value in values]
    for point in [p for i, p in enumerate(points) if p not in points[:i]]:
        build = partial(plain_cnn, point["width"], point["depth"])
        make = partial(Trainer, build, batch_size=point["batch"], image_size=IMAGE_SIZE, device=device)
        trainer = make(spec=REGISTRY["adafisher"])
        subjects = {kind: partial(trainer.step, kind) for kind in (True, False)}
        found, reference_s = ratios(subjects, make(spec=REGISTRY["sgd"]).step, num_pairs, device)
        reference_ms = Figure.of([1e3 * value for value in reference_s]).median
        cells = [*point.values(), f"{reference_ms:.1f}", Figure.of(found[True]), Figure.of(found[False])]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
