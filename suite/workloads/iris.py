"""Fisher's irises in two principal components: the plane in which trajectories are drawn (the paper's Fig 1)."""

import torch
from torch.nn import functional as F  # noqa: N812

from suite.workloads.base import Data, TensorSplit, WorkloadSpec
from suite.workloads.networks.convolutional import mlp
from suite.workloads.sklearn_sets import three_splits
from suite.workloads.tasks import accuracy

NUM_VAL = NUM_TEST = 30  # a fifth of each
NUM_TRAIN = 150 - NUM_VAL - NUM_TEST


def load() -> Data:
    """Return the irises, split by a fixed seed with the classes in proportion.

    Returns:
        90 + 30 + 30 flowers, shape ``[n, 2]``: two principal components of the four standardized lengths; means,
        deviations and components are those of the training split.
    """
    from sklearn.datasets import load_iris
    from sklearn.decomposition import PCA

    parts = three_splits(*load_iris(return_X_y=True), num_val=NUM_VAL, num_test=NUM_TEST)
    flowers, _ = parts[0]
    mean, std = flowers.mean(axis=0), flowers.std(axis=0)
    plane = PCA(n_components=2, svd_solver="full").fit((flowers - mean) / std)

    def split(lengths: object, targets: object) -> TensorSplit:
        inputs = plane.transform((lengths - mean) / std)
        return TensorSplit(torch.as_tensor(inputs, dtype=torch.float32), torch.as_tensor(targets, dtype=torch.int64))

    return Data(*(split(*part) for part in parts))


SPEC = WorkloadSpec(
    name="iris",
    load=load,
    build_model=mlp,
    loss=F.cross_entropy,
    metric=accuracy,
    metric_name="accuracy",
    target=0.9,
    target_set_by="SGD and Adam at lr 0.1, AdaFisher at 0.01, 100 epochs, seed 0: 0.933 at best",
    batch_size=30,
    num_train=NUM_TRAIN,
    num_train_paper=NUM_TRAIN + NUM_VAL,
    reference="a perceptron of 9 parameters on two components of Iris: Fisher (1936), scikit-learn; the paper's Fig 1",
)
