"""Everything here needs CUDA, and nothing but torch, numpy, scikit-learn and pytest.

In an environment without this project's other requirements::

    python3 -m pytest -c /dev/null --rootdir=. -p no:cacheprovider -m gpu tests/gpu
"""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def device():
    return torch.device("cuda", torch.cuda.current_device())
