"""Only regular files are opened, and nothing is waited for."""

import os
import socket
from pathlib import Path

import pytest

from memlight.storage.opening import is_regular, open_regular, read_limited


def test_what_is_no_file_is_refused_in_words_and_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name, words in (
            ("pipe", "a named pipe, not a file"),
            ("directory", "a directory, not a file"),
            ("link", "a link to .*gone, which is not there"),
            ("loop", "Too many levels"),
            ("socket", "a socket, not a file"),
            ("nothing", "no such file"),
            ("nul\0", "no such file"),
        ):
            assert not is_regular(tmp_path / name)
            with pytest.raises(OSError, match=words):
                open_regular(tmp_path / name)
    with pytest.raises(OSError, match="a device, not a file"):
        open_regular("/dev/zero")


def test_large_files_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match=f"has {1 << 40} bytes, and such a file has 1000 at most"):
        read_limited(tmp_path / "sparse", 1000)
    (tmp_path / "small").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("small")
    assert read_limited(tmp_path / "link", 3) == b"abc"
