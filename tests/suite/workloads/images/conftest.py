import pytest


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """The folder of the data sets: of this test alone, as is the cache; nothing is downloaded."""
    monkeypatch.setenv("FISHERBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FISHERBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FISHERBENCH_OFFLINE", "1")
    return tmp_path / "data"
