"""The cache gives back what was made, keeps it where only its owner can write, and makes it once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attnc.runtime.base import cache
from attnc.runtime.base.configuration import settings

KEY = hashlib.sha256(b"one").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()
PAYLOAD = bytes(range(256)) * 2


class Maker:
    """Makes the payload, and counts how often it was asked to."""

    def __init__(self, payload: bytes = PAYLOAD) -> None:
        self.payload, self.made = payload, 0

    def __call__(self) -> bytes:
        self.made += 1
        return self.payload


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "cache"
    with settings.override(cache_dir=path, cache=True):
        yield path


@pytest.fixture(autouse=True)
def fresh_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_warned", set())


def test_makes_once_and_keeps_it_private(folder: Path) -> None:
    maker = Maker()
    assert [cache.get(KEY, maker) for _ in range(3)] == [PAYLOAD] * 3
    assert maker.made == 1
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == [KEY], "no lock and no temporary is left"
    assert stat.S_IMODE((folder / KEY).stat().st_mode) == 0o600


def test_keys_do_not_share_entries(folder: Path) -> None:
    assert cache.get(KEY, Maker(b"a")) == b"a"
    assert cache.get(OTHER, Maker(b"b")) == b"b"
    (folder / OTHER).write_bytes((folder / KEY).read_bytes())
    (folder / OTHER).chmod(0o600)
    assert cache.get(OTHER, Maker(b"b")) == b"b", "an entry moved to another key is not believed"


def test_an_empty_payload_is_a_payload(folder: Path) -> None:
    maker = Maker(b"")
    assert cache.get(KEY, maker) == cache.get(KEY, maker) == b""
    assert maker.made == 1


@pytest.mark.parametrize("key", ["", "../x", KEY[:-1], KEY.upper(), KEY + "\n", "/" + KEY[1:]])
def test_a_key_is_a_hash(folder: Path, key: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        cache.get(key, Maker())
    assert not folder.exists()


def test_what_make_raises_passes_and_leaves_nothing(folder: Path) -> None:
    def fail() -> bytes:
        raise RuntimeError("no such instruction")

    with pytest.raises(RuntimeError, match="no such instruction"):
        cache.get(KEY, fail)
    assert list(folder.iterdir()) == []
    assert cache.get(KEY, Maker()) == PAYLOAD


def test_switched_off(folder: Path) -> None:
    maker = Maker()
    with settings.override(cache=False):
        cache.get(KEY, maker)
        cache.get(KEY, maker)
    assert maker.made == 2
    assert not folder.exists()


def test_usage_and_clear(folder: Path) -> None:
    assert cache.usage().entries == cache.clear() == 0
    cache.get(KEY, Maker())
    cache.get(OTHER, Maker())
    (folder / "notes.txt").write_text("mine")
    (folder / ".tmp-1-2").write_text("left over")
    assert cache.usage().entries == 2
    assert cache.usage().size > 2 * len(PAYLOAD)
    assert cache.clear() == 2
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_every_broken_entry_is_refused(folder: Path) -> None:
    cache.get(KEY, Maker())
    entry = folder / KEY
    sound = entry.read_bytes()
    refused = 0
    with cache._open_folder(folder) as descriptor:
        for broken in _broken(sound, random.Random(1)):
            entry.write_bytes(broken)
            assert cache._read(descriptor, KEY) is None
            refused += 1
        entry.write_bytes(sound)
        assert cache._read(descriptor, KEY) == PAYLOAD
    assert refused > 5000


def _broken(sound: bytes, generator: random.Random) -> Iterator[bytes]:
    for bit in range(len(sound) * 8):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)
    for length in range(len(sound)):
        yield sound[:length]
    for _ in range(200):
        start, end = sorted(generator.sample(range(len(sound) + 1), 2))
        yield sound[:start] + sound[end:]
        yield sound[:start] + generator.randbytes(end - start + 1) + sound[end:]
        yield sound + generator.randbytes(end)


def test_broken_entries_heal(folder: Path) -> None:
    cache.get(KEY, Maker())
    sound = (folder / KEY).read_bytes()
    for broken in random.Random(2).sample(list(_broken(sound, random.Random(3))), 100):
        (folder / KEY).write_bytes(broken)
        maker = Maker()
        assert cache.get(KEY, maker) == cache.get(KEY, maker) == PAYLOAD
        assert maker.made == 1
        assert (folder / KEY).read_bytes() == sound


def _link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_bytes(b"not to be touched")
    path.symlink_to(target)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _writable(path: Path) -> None:
    path.write_bytes(cache.MAGIC + cache._digest(KEY, b"planted") + b"planted")
    path.chmod(0o666)


@pytest.mark.parametrize("plant", [_link, _loop, os.mkfifo, _writable])
def test_what_is_no_plain_file_of_ours_is_replaced(folder: Path, plant: Callable[[Path], None]) -> None:
    folder.mkdir(mode=0o700)
    plant(folder / KEY)
    maker = Maker()
    assert cache.get(KEY, maker) == cache.get(KEY, maker) == PAYLOAD
    assert maker.made == 1
    assert stat.S_ISREG((folder / KEY).lstat().st_mode)
    if (folder / "elsewhere").exists():
        assert (folder / "elsewhere").read_bytes() == b"not to be touched"


def test_a_link_to_a_sound_entry_is_not_followed(folder: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    planted.write_bytes(cache.MAGIC + cache._digest(KEY, b"planted") + b"planted")
    folder.mkdir(mode=0o700)
    (folder / KEY).symlink_to(planted)
    assert cache.get(KEY, Maker()) == PAYLOAD


def _full(path: Path, outside: Path) -> None:
    """A folder with folders, files and links in it."""
    (path / "below" / "deeper").mkdir(parents=True)
    (path / "below" / "file").write_text("mine")
    (path / "below" / "link").symlink_to(outside)
    (path / "to a folder").symlink_to(outside.parent)


@pytest.mark.parametrize("full", [False, True])
def test_a_folder_in_the_place_of_an_entry_heals(folder: Path, tmp_path: Path, full: bool) -> None:
    outside = tmp_path / "outside" / "file"
    outside.parent.mkdir()
    outside.write_text("not to be touched")
    (folder / KEY).mkdir(parents=True)
    folder.chmod(0o700)
    if full:
        _full(folder / KEY, outside)
    maker = Maker()
    assert cache.get(KEY, maker) == cache.get(KEY, maker) == PAYLOAD
    assert maker.made == 1, "an entry is there from now on"
    assert [path.name for path in folder.iterdir()] == [KEY]
    assert outside.read_text() == "not to be touched"


def test_clearing_takes_folders_that_stand_for_entries(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "file"
    outside.parent.mkdir()
    outside.write_text("not to be touched")
    cache.get(OTHER, Maker())
    _full(folder / KEY, outside)
    (folder / f".lock-{KEY}").mkdir()
    assert cache.clear() == 2
    assert list(folder.iterdir()) == []
    assert outside.read_text() == "not to be touched"


def test_an_entry_of_no_use_is_made_anew(folder: Path) -> None:
    assert cache.get(KEY, Maker(b"of no use")) == b"of no use"

    def fail() -> bytes:
        raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        cache.renew(KEY, fail)
    assert cache.get(KEY, Maker()) == b"of no use", "what is there stays until there is something better"
    assert cache.renew(KEY, Maker()) == PAYLOAD
    assert cache.get(KEY, fail) == PAYLOAD
    assert [path.name for path in folder.iterdir()] == [KEY]
    with settings.override(cache=False):
        assert cache.renew(KEY, Maker(b"other")) == b"other"
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        cache.renew("", fail)


def test_an_entry_of_the_first_format_is_made_anew(folder: Path) -> None:
    """Libraries were kept then without having been loaded."""
    folder.mkdir(mode=0o700)
    (folder / KEY).write_bytes(b"ATTNC\0\0\1" + cache._digest(KEY, b"old") + b"old")
    (folder / KEY).chmod(0o600)
    assert cache.get(KEY, Maker()) == PAYLOAD


@pytest.mark.parametrize("plant", [_link, _loop, os.mkfifo, os.mkdir])
def test_a_lock_that_is_no_file(folder: Path, plant: Callable[[Path], None]) -> None:
    folder.mkdir(mode=0o700)
    plant(folder / f".lock-{KEY}")
    maker = Maker()
    assert cache.get(KEY, maker) == cache.get(KEY, maker) == PAYLOAD
    assert maker.made == 1


def _refused(message: str) -> None:
    maker = Maker()
    with pytest.warns(RuntimeWarning, match=message) as caught:
        assert cache.get(KEY, maker) == cache.get(KEY, maker) == PAYLOAD
    assert maker.made == 2
    assert len(caught) == 1, "one warning, not one for each call"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    _refused("others may write")
    assert list(folder.iterdir()) == []


def test_a_foreign_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    _refused("another user")
    assert list(folder.iterdir()) == []


def test_a_link_in_the_place_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "real")
    _refused("cannot be used")
    assert list((tmp_path / "real").iterdir()) == []


def test_a_file_in_the_place_of_the_folder(folder: Path) -> None:
    folder.write_text("mine")
    _refused("cannot be used")
    assert folder.read_text() == "mine"


@pytest.mark.parametrize("where", ["/proc/attnc", "/dev/null/attnc", "nul\0byte"])
def test_a_folder_that_cannot_be_made(where: str) -> None:
    with settings.override(cache_dir=Path(where)):
        _refused("cannot be used")


@pytest.fixture(params=[1_000, 1_800, 3_000])
def deep(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A path of so many parts; what is made of it is removed, because pytest's own clearing would recurse into it."""
    deep = tmp_path.joinpath(*("d" * request.param))
    yield deep
    if len(str(deep)) < 4096:
        for path in deep.iterdir():
            path.unlink()
        for path in (deep, *deep.parents):
            if path == tmp_path:
                break
            path.rmdir()


def test_a_folder_below_very_many(deep: Path, tmp_path: Path) -> None:
    """As many folders as a path may name are made; with more, it cannot be used."""
    with settings.override(cache_dir=deep, cache=True):
        if len(str(deep)) < 4096:
            maker = Maker()
            assert cache.get(KEY, maker) == cache.get(KEY, maker) == PAYLOAD
            assert maker.made == cache.usage().entries == 1
        else:
            _refused("cannot be used")
            with pytest.raises(OSError, match="name too long"):
                cache.usage()
            with pytest.raises(OSError, match="name too long"):
                cache.clear()
            assert not (tmp_path / "d").exists(), "and none of them is made"


@pytest.mark.parametrize("where", ["~/x", "~/a/b"])
def test_a_folder_below_home(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTNC_CACHE_DIR", where)
    with settings.override(cache=True):
        cache.get(KEY, Maker())
        assert cache.location() == tmp_path / where[2:]
    assert [path.name for path in tmp_path.joinpath(where[2:]).iterdir()] == [KEY]
    assert not (tmp_path / "~").exists()


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with settings.override(cache_dir=None):
        _refused("cannot be used")


def test_the_users_cache_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with settings.override(cache_dir=None, cache=True):
        cache.get(KEY, Maker())
        assert cache.location().is_relative_to(tmp_path)
        assert (cache.location() / KEY).is_file()


def test_a_lock_whose_holder_hangs(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    with open(folder / f".lock-{KEY}", "w") as holder, settings.override(lock_seconds=0.05):
        fcntl.flock(holder, fcntl.LOCK_EX)
        maker = Maker()
        assert cache.get(KEY, maker) == cache.get(KEY, maker) == PAYLOAD
        assert maker.made == 1


def test_a_lock_left_by_a_killed_process(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / f".lock-{KEY}").touch()
    assert cache.get(KEY, Maker()) == PAYLOAD
    assert [path.name for path in folder.iterdir()] == [KEY]


def test_old_temporaries_are_swept(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    for name, age in ((".tmp-old", 7200.0), (".tmp-young", 0.0)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    cache.get(KEY, Maker())
    assert sorted(path.name for path in folder.iterdir()) == [".tmp-young", KEY]


def test_threads_make_it_once(folder: Path) -> None:
    made: list[int] = []
    results: list[bytes] = []
    barrier = threading.Barrier(16)

    def make() -> bytes:
        made.append(1)
        time.sleep(0.1)
        return PAYLOAD

    def ask() -> None:
        barrier.wait()
        results.append(cache.get(KEY, make))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [PAYLOAD] * 16
    assert len(made) == 1


PROCESS = """
import os, sys, time
from pathlib import Path
from attnc.runtime.base import cache

folder, key = Path(sys.argv[1]), sys.argv[2]

def make():
    with open(folder / "made", "a") as log:
        log.write("x")
    time.sleep(0.1)
    return b"payload" * 1000

print("ready", flush=True)
sys.stdin.readline()
assert cache.get(key, make) == b"payload" * 1000
"""


def test_processes_make_it_once(tmp_path: Path) -> None:
    environment = {**os.environ, "ATTNC_CACHE_DIR": str(tmp_path / "cache"), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    for key in (KEY, OTHER):
        processes = [
            subprocess.Popen([*command, key], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            for _ in range(24)
        ]
        for process in processes:  # all are up before any may start
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        assert [process.wait() for process in processes] == [0] * 24
        for process in processes:
            process.communicate()
    assert (tmp_path / "made").read_text() == "xx"
