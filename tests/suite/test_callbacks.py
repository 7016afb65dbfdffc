import pytest

from suite.errors import UsageError
from suite.execution.callbacks import VARIABLE, find_callbacks
from suite.execution.storage import FOLDER, clear_storage, storage_of
from suite.results import Store


class Called:
    pass


MADE = object()


def test_callbacks_are_made_or_taken_as_they_are(monkeypatch):
    monkeypatch.setenv(VARIABLE, f"{__name__}:Called, {__name__}:MADE")
    called, made = find_callbacks()
    assert isinstance(called, Called)
    assert made is MADE
    monkeypatch.delenv(VARIABLE)
    assert find_callbacks() == []


@pytest.mark.parametrize("name", ["json", "json:nothing", "nowhere.at:all", "json:loads"])
def test_what_is_no_callback_is_refused(monkeypatch, name):
    monkeypatch.setenv(VARIABLE, name)
    with pytest.raises(UsageError, match=f"FISHERBENCH_CALLBACKS='{name}' is no callback: "):
        find_callbacks()


def test_where_ray_keeps_its_files(tmp_path, monkeypatch):
    store = Store(tmp_path / "results", "tiny")
    assert storage_of(store, tmp_path) == {"storage_path": str(tmp_path / "runs")}
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    place = storage_of(store, tmp_path)
    assert place["storage_path"] == str(tmp_path / "results" / FOLDER)
    store.folder.write(f"{FOLDER}/trials/file", b"1")
    clear_storage(store)
    clear_storage(store)
    assert not (tmp_path / "results" / FOLDER).exists()


def test_the_logs_of_callbacks_stay(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, f"{__name__}:Called")
    store = Store(tmp_path / "results", "tiny")
    assert storage_of(store, tmp_path)["storage_path"] == str(tmp_path / "results" / FOLDER)
    store.folder.write(f"{FOLDER}/trials/file", b"1")
    clear_storage(store)
    assert store.folder.has(f"{FOLDER}/trials/file")
