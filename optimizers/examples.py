"""Optimizers of the package ``pytorch_optimizer`` as arms, to imitate: ``optimizer="optimizers.examples:LAMB"``.

Importing this module needs the package, ``pip install 'fisherbench[peers]'``; nothing else in ``optimizers`` does.
"""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from .base import BETA, DECOUPLED_WEIGHT_DECAY, WEIGHT_DECAY, Categorical, Float, SearchSpace
from .foreign import class_of, keywords, spec_of

LAMB_SPACE: SearchSpace = {"lr": Float(low=1e-4, high=1e-1, log=True)}
LAMB = spec_of(
    "pytorch_optimizer.Lamb",
    search_space=LAMB_SPACE,
    spaces={"wide": {**LAMB_SPACE, "weight_decay": DECOUPLED_WEIGHT_DECAY}},
    reference="You et al. (2020), Large Batch Optimization for Deep Learning: Training BERT in 76 minutes, ICLR",
)

LARS_SPACE: SearchSpace = {"lr": Float(low=1e-2, high=1e2, log=True), "momentum": BETA}
LARS = spec_of(
    "pytorch_optimizer.LARS",
    defaults={"lr": 1.0},  # a step is lr x trust_coefficient = 1e-3 of the layer's norm
    search_space=LARS_SPACE,
    spaces={"wide": {**LARS_SPACE, "weight_decay": WEIGHT_DECAY}},
    reference="You et al. (2017), Large Batch Training of Convolutional Networks, arXiv:1708.03888",
)

SOAP_SPACE: SearchSpace = {
    "lr": Float(low=1e-4, high=1e-1, log=True),
    "betas": Categorical(choices=("(0.9, 0.9)", "(0.95, 0.95)", "(0.95, 0.99)")),  # a pair is written as a text
}
SOAP = spec_of(
    "pytorch_optimizer.SOAP",
    search_space=SOAP_SPACE,
    spaces={"wide": {**SOAP_SPACE, "precondition_frequency": Categorical(choices=(10, 50))}},
    reference="Vyas et al. (2025), SOAP: Improving and Stabilizing Shampoo using Adam, ICLR",
)


def build_muon(model: nn.Module, config: Any) -> Optimizer:  # noqa: ANN401
    """Return Muon over matrices and kernels, and AdamW, which its class provides, over vectors and embeddings."""
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for param in model.parameters():
        if param.requires_grad:
            groups[param.ndim >= 2 and param not in embeddings].append(param)
    params = [{"params": group, "use_muon": is_muon} for is_muon, group in groups.items() if group]
    return class_of("pytorch_optimizer.Muon")(params, **keywords(config))


MUON_SPACE: SearchSpace = {
    "lr": Float(low=1e-3, high=1e-1, log=True),
    "adamw_lr": Float(low=1e-4, high=1e-2, log=True),
}
MUON = spec_of(
    "pytorch_optimizer.Muon",
    build=build_muon,
    search_space=MUON_SPACE,
    spaces={"wide": {**MUON_SPACE, "momentum": BETA, "weight_decay": DECOUPLED_WEIGHT_DECAY}},
    reference="Jordan et al. (2024), Muon: An optimizer for hidden layers in neural networks",
)
