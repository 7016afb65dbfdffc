"""The small data sets that scikit-learn carries, split by a fixed seed."""

from typing import Any

from numpy.typing import NDArray

SPLIT_SEED = 0

Part = tuple[NDArray[Any], NDArray[Any]]


def three_splits(
    features: NDArray[Any], labels: NDArray[Any], *, num_val: int, num_test: int
) -> tuple[Part, Part, Part]:
    """Split samples with the classes in proportion.

    Args:
        features: Shape ``[n, ...]``.
        labels: Classes, shape ``[n]``.
        num_val: Samples of the validation split.
        num_test: Samples of the test split.

    Returns:
        Features and labels for training, validation and test.
    """
    from sklearn.model_selection import train_test_split

    rest, test, rest_labels, test_labels = train_test_split(
        features, labels, test_size=num_test, stratify=labels, random_state=SPLIT_SEED
    )
    train, val, train_labels, val_labels = train_test_split(
        rest, rest_labels, test_size=num_val, stratify=rest_labels, random_state=SPLIT_SEED
    )
    return (train, train_labels), (val, val_labels), (test, test_labels)
