import pytest
import torch


@pytest.fixture(autouse=True)
def _deterministic():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def _quiet(monkeypatch):
    """The machine counts as quiet: beside other tests it is not, and a calibration would wait for it for 20 s."""
    monkeypatch.setattr("suite.execution.measure.wait_until_quiet", lambda: True)
