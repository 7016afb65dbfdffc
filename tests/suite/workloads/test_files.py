import errno
import hashlib
import http.client
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from suite.errors import UsageError
from suite.workloads import files
from suite.workloads.files import cache_folder, cached, data_folder, locate, verify

ROOT = Path(__file__).parents[3]
NAMES = ["a.txt", "b.txt|b.txt.gz"]
ADVICE = "ask around"


@pytest.fixture(autouse=True)
def _folders(tmp_path, monkeypatch):
    monkeypatch.setenv("FISHERBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FISHERBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FISHERBENCH_OFFLINE", "1")


def write(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(name)
    return folder


def refusal(call):
    with pytest.raises(UsageError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- folders


def test_the_folders_are_the_users_choice(tmp_path, monkeypatch):
    assert (data_folder(), cache_folder()) == (tmp_path / "data", tmp_path / "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FISHERBENCH_DATA", "~/mine")
    assert data_folder() == tmp_path / "mine"
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("FISHERBENCH_DATA")
    monkeypatch.setenv("FISHERBENCH_CACHE", "")
    assert data_folder() == tmp_path / ".cache/fisherbench/data"
    assert cache_folder() == tmp_path / ".cache/fisherbench/decoded"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_folder() == tmp_path / "xdg/fisherbench/data"


# ---- locate


@pytest.mark.parametrize("names", [("a.txt", "b.txt"), ("a.txt", "b.txt.gz"), ("a.txt", "b.txt", "b.txt.gz", "c")])
def test_a_whole_set_is_found(tmp_path, names):
    write(tmp_path / "data/set", *names)
    assert locate("set", NAMES, advice=ADVICE) == tmp_path / "data/set"


def test_the_users_folder_goes_before_the_systems(tmp_path):
    system = write(tmp_path / "system", "a.txt", "b.txt")
    places = [str(tmp_path / "nowhere"), str(system)]
    assert locate("set", NAMES, advice=ADVICE, places=places) == system
    own = write(tmp_path / "data/set", "a.txt", "b.txt")
    assert locate("set", NAMES, advice=ADVICE, places=places) == own


def test_a_whole_set_goes_before_a_part(tmp_path):
    write(tmp_path / "data/set", "a.txt")
    system = write(tmp_path / "system", "a.txt", "b.txt")
    assert locate("set", NAMES, advice=ADVICE, places=[str(system)]) == system


def test_a_part_is_refused_and_neither_filled_nor_replaced(tmp_path, monkeypatch):
    monkeypatch.delenv("FISHERBENCH_OFFLINE")
    folder = write(tmp_path / "data/set", "a.txt")
    message = refusal(lambda: locate("set", NAMES, advice=ADVICE, download=lambda draft: write(draft, "b.txt")))
    assert message == f"the data set 'set' in {folder} is not whole: it lacks b.txt or b.txt.gz; ask around"
    assert [path.name for path in folder.iterdir()] == ["a.txt"]


def test_a_missing_set_says_where_it_was_looked_for(tmp_path):
    message = refusal(lambda: locate("set", NAMES, advice=ADVICE, places=["/nowhere"]))
    assert message == (
        f"the data set 'set' was not found in {tmp_path}/data/set and /nowhere; ask around, or set FISHERBENCH_DATA"
    )
    assert not (tmp_path / "data").exists()


def test_a_file_for_the_data_folder_holds_nothing(tmp_path):
    (tmp_path / "data").write_text("")
    assert "was not found" in refusal(lambda: locate("set", NAMES, advice=ADVICE))


# ---- downloads


def test_nothing_is_downloaded_offline(tmp_path):
    message = refusal(lambda: locate("set", NAMES, advice=ADVICE, download=pytest.fail))
    assert "; it cannot be downloaded: FISHERBENCH_OFFLINE is set; ask around" in message
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("value", ["0", ""])
def test_a_download_is_found_afterwards(tmp_path, monkeypatch, value):
    monkeypatch.setenv("FISHERBENCH_OFFLINE", value)
    folder = locate("set", NAMES, advice=ADVICE, download=lambda draft: write(draft, "a.txt", "b.txt"))
    assert folder == tmp_path / "data/set"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["set"]
    assert locate("set", NAMES, advice=ADVICE, download=pytest.fail) == folder


def test_a_download_may_fill_one_of_the_places(tmp_path, monkeypatch):
    monkeypatch.delenv("FISHERBENCH_OFFLINE")
    raw = tmp_path / "data/set/raw"
    download = lambda draft: write(draft / "raw", "a.txt", "b.txt")  # noqa: E731
    assert locate("set", NAMES, advice=ADVICE, places=[str(raw)], download=download) == raw


FAILURES = [
    OSError("timed\nout"),
    RuntimeError("File not found or corrupted."),
    http.client.IncompleteRead(b"half"),
    EOFError(),
    TimeoutError(),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_download_that_fails_leaves_nothing(tmp_path, monkeypatch, error):
    monkeypatch.delenv("FISHERBENCH_OFFLINE")

    def download(draft):
        write(draft, "a.txt")
        raise error

    message = refusal(lambda: locate("set", NAMES, advice=ADVICE, download=download))
    said = " ".join(str(error).split()) or type(error).__name__
    assert f"; it cannot be downloaded: {said}; ask around, or set FISHERBENCH_DATA" in message
    assert not list((tmp_path / "data").iterdir())


def test_a_download_that_lacks_files_is_no_success(monkeypatch):
    monkeypatch.delenv("FISHERBENCH_OFFLINE")
    download = lambda draft: write(draft, "readme")  # noqa: E731
    message = refusal(lambda: locate("set", NAMES, advice=ADVICE, download=download))
    assert "it cannot be downloaded: what came lacks files" in message


def test_a_download_into_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    monkeypatch.delenv("FISHERBENCH_OFFLINE")
    (tmp_path / "data").write_text("")
    message = refusal(lambda: locate("set", NAMES, advice=ADVICE, download=pytest.fail))
    assert re.search(r"it cannot be downloaded: .*(File exists|Not a directory)", message)


def test_another_process_may_be_quicker(tmp_path, monkeypatch):
    monkeypatch.delenv("FISHERBENCH_OFFLINE")

    def download(draft):
        write(draft, "a.txt", "b.txt")
        write(tmp_path / "data/set", "a.txt", "b.txt", "of the other")

    folder = locate("set", NAMES, advice=ADVICE, download=download)
    assert (folder / "of the other").exists()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["set"]


# ---- verify


def test_checksums(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    right = hashlib.md5(b"content").hexdigest()
    verify(path, right)
    path.write_bytes(b"conten")
    found = hashlib.md5(b"conten").hexdigest()
    assert refusal(lambda: verify(path, right)) == (
        f"{path} is corrupt or half-downloaded: its MD5 is {found}, published is {right}; get it again"
    )


def test_what_cannot_be_read_is_refused(tmp_path):
    assert f"{tmp_path} cannot be read: " in refusal(lambda: verify(tmp_path, "0"))
    assert "cannot be read: " in refusal(lambda: verify(tmp_path / "nothing", "0"))


# ---- cached


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_text("one")
    return path


class Build:
    """Counts how often it decodes."""

    def __init__(self, value=1.0):
        self.count, self.value = 0, value

    def __call__(self):
        self.count += 1
        return {"floats": torch.full((1000,), self.value), "bytes": torch.arange(7, dtype=torch.uint8)}


def entries():
    return sorted(cache_folder().iterdir())


def is_mapped(tensor):
    maps = Path("/proc/self/maps").read_text().splitlines()
    ranges = [line.split()[0].split("-") for line in maps if str(cache_folder()) in line]
    return any(int(low, 16) <= tensor.data_ptr() < int(high, 16) for low, high in ranges)


def test_tensors_are_decoded_once_and_mapped(source):
    build = Build()
    for _ in range(3):
        tensors = cached("set", [source], build)
        assert torch.equal(tensors["floats"], torch.ones(1000))
        assert tensors["bytes"].tolist() == list(range(7))
        assert is_mapped(tensors["floats"])
    assert build.count == 1
    assert [path.suffix for path in entries()] == [".pt"]


@pytest.mark.parametrize("change", ["size", "time", "name", "version"])
def test_a_change_decodes_anew(source, monkeypatch, change):
    cached("set", [source], Build(1.0))
    if change == "size":
        time = source.stat().st_mtime_ns
        source.write_text("three")
        os.utime(source, ns=(time, time))
    elif change == "time":
        os.utime(source, ns=(1, 1))
    elif change == "version":
        monkeypatch.setattr(files, "CACHE_VERSION", files.CACHE_VERSION + 1)
    assert cached("other" if change == "name" else "set", [source], Build(2.0))["floats"][0] == 2


def test_another_source_of_the_same_size_and_time_is_another(source, tmp_path):
    twin = tmp_path / "twin"
    twin.write_text("one")
    os.utime(twin, ns=(source.stat().st_mtime_ns,) * 2)
    cached("set", [source], Build(1.0))
    assert cached("set", [twin], Build(2.0))["floats"][0] == 2


KEEP = {"nothing": 0, "a byte": 1, "the start": 100, "half": 0.5, "all but the end": -1, "all but the index": -200}


@pytest.mark.parametrize("keep", KEEP.values(), ids=KEEP)
def test_a_truncated_file_is_decoded_anew(source, keep):
    cached("set", [source], Build())
    (path,) = entries()
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    build = Build()
    assert torch.equal(cached("set", [source], build)["floats"], torch.ones(1000))
    assert build.count == 1
    cached("set", [source], build)
    assert build.count == 1


@pytest.mark.parametrize(
    "content", [b"<html>" * 1000, b"\x80\x02.", b"PK\x05\x06" + bytes(18)], ids=["text", "pickle", "zip"]
)
def test_another_kind_of_file_is_decoded_anew(source, content):
    cached("set", [source], Build())
    (path,) = entries()
    path.write_bytes(content)
    assert torch.equal(cached("set", [source], Build())["floats"], torch.ones(1000))


def test_an_error_of_decoding_is_not_one_of_the_cache(source):
    def build():
        raise RuntimeError("decoding")

    with pytest.raises(RuntimeError, match="decoding"):
        cached("set", [source], build)
    assert not entries()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64\nvs 0")]
)
def test_a_full_disk_leaves_nothing(source, monkeypatch, error):
    def save(tensors, path):
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", save)
    message = refusal(lambda: cached("set", [source], Build()))
    said = " ".join(str(error).split())
    expected = f"the cache {cache_folder()} cannot be written: {said}; set FISHERBENCH_CACHE to a folder that can"
    assert message == expected
    assert not entries()


def test_a_cache_that_cannot_be_made_is_refused_before_decoding(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FISHERBENCH_CACHE", str(tmp_path / "file" / "cache"))
    message = refusal(lambda: cached("set", [source], pytest.fail))
    assert f"the cache {tmp_path}/file/cache cannot be written: " in message


def test_a_folder_in_the_place_of_the_file_is_refused(source):
    cached("set", [source], Build())
    (path,) = entries()
    path.unlink()
    path.mkdir()
    assert "cannot be written: " in refusal(lambda: cached("set", [source], Build()))
    assert entries() == [path]


def test_tensors_outlive_the_file(source):
    tensors = cached("set", [source], Build())
    (path,) = entries()
    path.unlink()
    other = cached("set", [source], Build(2.0))
    assert (tensors["floats"].sum(), other["floats"].sum()) == (1000, 2000)


PROCESS = """
import sys, time, torch
from pathlib import Path
from suite.workloads.files import cached

def build():
    Path(sys.argv[2]).touch()
    while not Path(sys.argv[3]).exists():  # until the other one is decoding too
        time.sleep(0.01)
    return {"x": torch.arange(1_000_000)}

tensors = cached("set", [Path(sys.argv[1])], build)
assert torch.equal(tensors["x"], torch.arange(1_000_000))
"""


def test_two_processes_may_decode_at_once(source, tmp_path):
    flags = [str(tmp_path / "first"), str(tmp_path / "second")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(source), *order], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for order in (flags, flags[::-1])
    ]
    for process in processes:
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
    assert [path.suffix for path in entries()] == [".pt"]
