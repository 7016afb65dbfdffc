"""The work that optimizers are timed on: networks, one batch, a plain training step, and what an optimizer holds."""

import gc

import torch
import torchvision
from torch import Tensor, nn

from optimizers import OptimizerSpec, Refreshing

NUM_CLASSES = 100


def resnet18() -> nn.Module:
    """Return ResNet-18 in CIFAR form: a 3 x 3 stem and no pooling after it; 11.2 million parameters."""
    net = torchvision.models.resnet18(num_classes=NUM_CLASSES)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


def plain_cnn(width: int, depth: int) -> nn.Module:
    """Return ``depth`` times convolution, BatchNorm and ReLU with ``width`` channels, then a linear layer."""
    layers: list[nn.Module] = []
    for channels in [3, *[width] * (depth - 1)]:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, NUM_CLASSES))


class Trainer:
    """A network, its optimizer, and the one batch that it trains on again and again."""

    def __init__(
        self,
        build_model,
        spec: OptimizerSpec,
        *,
        batch_size: int,
        image_size: int = 32,
        device: str = "cpu",
        **hyperparameters: object,
    ) -> None:
        torch.manual_seed(0)
        self.model = build_model().to(device)
        self.inputs = torch.randn(batch_size, 3, image_size, image_size, device=device)
        self.targets = torch.randint(NUM_CLASSES, (batch_size,), device=device)
        self.spec = spec
        self.optimizer = spec.build(self.model, spec.configure(**hyperparameters))

    def step(self, level: int | None = None) -> None:
        """Take a training step; of an optimizer that refreshes something, one of this level."""
        if level is not None and isinstance(self.optimizer, Refreshing):
            self.optimizer.schedule_refresh(level)
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.inputs), self.targets)
        loss.backward(create_graph=self.spec.needs_graph(self.optimizer))
        self.optimizer.step()


def live_bytes() -> int:
    """Return the bytes of all tensors that Python can reach, each storage once."""
    gc.collect()
    tensors = [each for each in gc.get_objects() if type(each) in {Tensor, nn.Parameter}]  # a FakeTensor has no storage
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
    return sum(storages.values())


def held_bytes(build_model, spec: OptimizerSpec, **hyperparameters: object) -> tuple[int, int]:
    """Return the bytes that an optimizer holds between two steps, gradients apart, and those of its parameters."""
    trainer = Trainer(build_model, spec, batch_size=2, **hyperparameters)
    optimizer = trainer.optimizer
    trainer.step()
    trainer.step()
    trainer.model.zero_grad(set_to_none=True)
    with_optimizer = live_bytes()
    del trainer.optimizer, optimizer
    return with_optimizer - live_bytes(), sum(p.numel() * p.element_size() for p in trainer.model.parameters())
