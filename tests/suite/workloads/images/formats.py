"""Small data sets in the formats of the real ones."""

import gzip
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from suite.errors import UsageError
from suite.workloads.images import idx

# ---- what all tests ask


def refusal(load):
    """Return the one line with which something is refused."""
    try:
        load()
    except UsageError as error:
        assert "\n" not in str(error)
        return str(error)
    raise AssertionError("nothing was refused")


def leftovers(*folders):
    """Return the temporary files and folders below some folders."""
    return [path for folder in folders for path in Path(folder).rglob("*") if path.name.startswith((".", "tmp"))]


def pixels_by_label(images, labels):
    """Return all pairs of an image and its label, to compare sets that are split or in another order."""
    return sorted(
        (int(label), image.contiguous().numpy().tobytes()) for image, label in zip(images, labels, strict=True)
    )


def noise(*shape, seed):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


# ---- IDX


def idx_bytes(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.dim()]) + sizes + array.to(torch.uint8).numpy().tobytes()


def idx_set(num_train=60, num_test=20):
    """Return arrays by file name."""
    return {
        "train-images-idx3-ubyte": noise(num_train, 28, 28, seed=1),
        "train-labels-idx1-ubyte": torch.arange(num_train) % 10,
        "t10k-images-idx3-ubyte": noise(num_test, 28, 28, seed=2),
        "t10k-labels-idx1-ubyte": (3 + torch.arange(num_test)) % 10,
    }


def write_idx(folder, arrays, compressed):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array), mtime=0))
        else:
            (folder / name).write_bytes(idx_bytes(array))


def publish_idx(monkeypatch, name, arrays):
    """Make the checksums of small arrays the published ones."""
    md5s = {file: hashlib.md5(idx_bytes(array)).hexdigest() for file, array in arrays.items()}
    monkeypatch.setitem(idx.MD5S, name, md5s)


# ---- CIFAR


def write_cifar(data, dataset, num_images=40):
    """Write each file with its own images; return images and labels of the training and of the test files."""
    folder = data / dataset.base_folder
    folder.mkdir(parents=True)
    num_classes = 10 if "10-" in dataset.base_folder else 100
    key = "labels" if num_classes == 10 else "fine_labels"
    parts = []
    for files in (dataset.train_list, dataset.test_list):
        images, labels = [], []
        for file, _ in files:
            rows = noise(num_images, 3072, seed=len(labels) + len(parts))
            own = [(7 * at) % num_classes for at in range(num_images)]
            (folder / file).write_bytes(pickle.dumps({"data": rows.numpy(), key: own}))
            images.append(rows)
            labels += own
        parts.append((torch.cat(images).reshape(-1, 3, 32, 32), torch.tensor(labels)))
    names = [f"class {k}" for k in range(num_classes)]
    (folder / dataset.meta["filename"]).write_bytes(pickle.dumps({dataset.meta["key"]: names}))
    return parts


def publish_cifar(monkeypatch, data, dataset):
    """Make the checksums of the files in the data folder the published ones."""
    folder = data / dataset.base_folder
    for attribute in ("train_list", "test_list"):
        files = [[name, md5(folder / name)] for name, _ in getattr(dataset, attribute)]
        monkeypatch.setattr(dataset, attribute, files)
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": md5(folder / dataset.meta["filename"])})


class Boom:
    """Unpickling it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


# ---- JPEG


def photograph(height, width, seed, grey=False):
    """Return smooth pixels, which JPEG keeps well."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize((width, height))
    return coarse.convert("L") if grey else coarse


def save_jpeg(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=95)


def rgb(path):
    """Return a file's pixels, shape ``[3, H, W]``, read plainly."""
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


# ---- Tiny ImageNet

WNIDS = ["n03", "n01", "n02"]
PER_CLASS, NUM_VAL = 4, 3


def write_tiny_imagenet(data, num_test=5):
    folder = data / "tiny-imagenet-200"
    for number, name in enumerate(WNIDS):
        for at in range(PER_CLASS):
            image = photograph(64, 64, seed=10 * number + at, grey=at == 1)
            save_jpeg(folder / "train" / name / "images" / f"{name}_{at}.JPEG", image)
        (folder / "train" / name / f"{name}_boxes.txt").write_text("")
    lines = []
    for at in range(num_test):
        save_jpeg(folder / "val" / "images" / f"val_{at}.JPEG", photograph(64, 64, seed=100 + at, grey=at == 2))
        lines.append(f"val_{at}.JPEG\t{WNIDS[at % 3]}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (folder / "test" / "images").mkdir(parents=True)
    return folder


# ---- ImageNet

CLASSES = ["n1", "n2"]
SIZES = [(300, 400), (280, 260), (100, 90), (256, 256)]  # height and width, of each class's images


def write_imagenet(data):
    folder = data / "imagenet"
    for part, sizes in (("train", SIZES), ("val", SIZES[:2])):
        for label, name in enumerate(CLASSES):
            for at, size in enumerate(sizes):
                path = folder / part / name / f"{part}_{at}.JPEG"
                save_jpeg(path, photograph(*size, seed=100 * (part == "val") + 10 * label + at, grey=at == 1))
    return folder
