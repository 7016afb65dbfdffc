import hashlib
import io

import pytest
import torch

from suite.workloads.networks import pretrained


@pytest.fixture
def _no_data(tmp_path, monkeypatch):
    """No data sets, no cache, no network."""
    for name in ("DATA", "CACHE"):
        monkeypatch.setenv(f"FISHERBENCH_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("FISHERBENCH_OFFLINE", "1")


@pytest.fixture
def _published_weights(_no_data, tmp_path, monkeypatch):
    """For every network a local file of weights, as if torchvision had published it."""
    folder = tmp_path / "data" / "weights"
    folder.mkdir(parents=True)

    def url(name):
        from torchvision.models import get_model

        torch.manual_seed(0)
        file = io.BytesIO()
        torch.save(get_model(name).state_dict(), file)
        path = folder / f"{name}-{hashlib.sha256(file.getvalue()).hexdigest()[:8]}.pth"
        path.write_bytes(file.getvalue())
        return f"https://example.org/models/{path.name}"

    monkeypatch.setattr(pretrained, "published_url", url)
