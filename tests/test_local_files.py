"""Local files appear complete or not at all, also after a kill, and one process at a time holds a lock."""

import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from affect import local_files
from affect.errors import UserError
from tests.helpers.commands import REPOSITORY
from tests.helpers.text_folders import content_of, write_folder

HOLD = """
import sys, time
from pathlib import Path
from affect.local_files import locked
with locked(Path(sys.argv[1]), "held"):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("existing", [None, "old"])
def test_a_file_appears_whole_and_replaces_an_existing_one(tmp_path, existing):
    path = tmp_path / "folder/scores.h5"
    if existing:
        path.parent.mkdir()
        path.write_text(existing)
    with local_files.atomic_write(path) as temporary:
        assert (temporary.parent, temporary.suffix) == (path.parent, ".h5")
        temporary.write_text("half")
        assert not path.exists() if existing is None else path.read_text() == existing
        temporary.write_text("whole")
    assert content_of(tmp_path) == {"folder/scores.h5": "whole"}


@pytest.mark.parametrize("existing", [None, {"a": "old a", "b": "old b"}, {}])
def test_a_folder_appears_whole_and_replaces_an_existing_one(tmp_path, existing):
    path = tmp_path / "export"
    if existing is not None:
        write_folder(path, **existing)
    with local_files.atomic_write(path) as temporary:
        write_folder(temporary, a="new a", c="new c")
        assert content_of(path) == (existing or {})
    assert content_of(tmp_path) == {"export/a": "new a", "export/c": "new c"}
    assert os.listdir(tmp_path) == ["export"]


def test_a_link_to_a_folder_is_replaced_and_its_target_is_kept(tmp_path):
    write_folder(tmp_path / "target", a="old")
    (tmp_path / "export").symlink_to(tmp_path / "target")
    with local_files.atomic_write(tmp_path / "export") as temporary:
        write_folder(temporary, a="new")
    assert content_of(tmp_path / "target") == {"a": "old"}
    assert not (tmp_path / "export").is_symlink() and content_of(tmp_path / "export") == {"a": "new"}


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_error_keeps_the_existing_file_or_folder_and_leaves_nothing_else(tmp_path, error):
    (tmp_path / "file").write_text("old")
    write_folder(tmp_path / "folder", a="old a")
    before = content_of(tmp_path)
    with pytest.raises(type(error)), local_files.atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise error
    with pytest.raises(type(error)), local_files.atomic_write(tmp_path / "folder") as temporary:
        write_folder(temporary, a="half")
        raise error
    with pytest.raises(type(error)), local_files.atomic_write(tmp_path / "new") as temporary:
        raise error
    assert content_of(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_failed_rename_restores_the_existing_folder(tmp_path, monkeypatch):
    write_folder(tmp_path / "folder", a="old a")
    replace = os.replace

    def fail_on_the_new_folder(source, target):
        if Path(target) == tmp_path / "folder" and "~" not in Path(source).name:
            raise OSError("no rename")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_on_the_new_folder)
    with pytest.raises(OSError, match="no rename"), local_files.atomic_write(tmp_path / "folder") as temporary:
        write_folder(temporary, a="new a")
    assert content_of(tmp_path) == {"folder/a": "old a"}
    assert os.listdir(tmp_path) == ["folder"]


def write_and_die(path, at_rename):
    """Replaces a folder, and kills the own process in the block (0) or at one of the two renames."""
    replace, count = os.replace, 0

    def counted(source, target):
        nonlocal count
        count += 1
        if count == at_rename:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = counted
    with local_files.atomic_write(path) as temporary:
        write_folder(temporary, a="new a")
        if at_rename == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("at_rename", [0, 1, 2])
def test_after_a_kill_at_any_moment_the_old_folder_is_there_and_nothing_else(tmp_path, at_rename):
    write_folder(tmp_path / "folder", a="old a")
    (tmp_path / ".12.hidden").mkdir()  # left by another process
    (tmp_path / ".keep").write_text("not ours")
    process = multiprocessing.get_context("fork").Process(target=write_and_die, args=(tmp_path / "folder", at_rename))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert content_of(tmp_path) != {"folder/a": "old a", ".keep": "not ours"}  # there are leftovers
    local_files.remove_leftovers(tmp_path)
    assert content_of(tmp_path) == {"folder/a": "old a", ".keep": "not ours"}
    assert sorted(os.listdir(tmp_path)) == [".keep", "folder"]


def test_only_leftovers_of_the_named_folder_are_removed(tmp_path):
    for name in (".12.export", ".12~export", ".2023.thesis", "export"):
        (tmp_path / name).mkdir()
    local_files.remove_leftovers(tmp_path, "export")
    assert sorted(os.listdir(tmp_path)) == [".2023.thesis", "export"]


def test_the_leftover_of_a_process_with_the_same_id_is_not_mixed_in(tmp_path):
    write_folder(tmp_path / f".{os.getpid()}.folder", half="written by a killed process")
    with local_files.atomic_write(tmp_path / "folder") as temporary:
        write_folder(temporary, a="new a")
    assert content_of(tmp_path) == {"folder/a": "new a"}


def test_local_files_are_listed_through_links_but_never_in_circles(tmp_path):
    write_folder(tmp_path / "corpus", a="1")
    write_folder(tmp_path / "elsewhere", b="2")
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "corpus/circle").symlink_to(tmp_path / "corpus")
    (tmp_path / "corpus/broken").symlink_to(tmp_path / "nowhere")
    assert local_files.list_local(tmp_path / "corpus") == {"a", "linked/b"}
    with pytest.raises(UserError, match="nowhere: cannot be listed"):
        local_files.list_local(tmp_path / "nowhere")


def test_a_lock_that_another_process_holds_is_refused_and_ends_when_that_is_killed(tmp_path):
    path = tmp_path / "new folder/.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"locked\n"
    with pytest.raises(UserError, match="^another training is running$"):
        with local_files.locked(path, "another training is running"):
            raise AssertionError("the block must not run")
    holder.kill()
    holder.communicate()
    with local_files.locked(path, "still held"):
        pass
    assert os.listdir(path.parent) == [".lock"]


def test_a_lock_is_held_once_per_process_too_and_ends_with_its_block(tmp_path):
    with pytest.raises(OSError, match="disk full"), local_files.locked(tmp_path / ".lock", "held"):
        with pytest.raises(UserError, match="^held$"), local_files.locked(tmp_path / ".lock", "held"):
            pass
        raise OSError("disk full")
    with local_files.locked(tmp_path / ".lock", "held"), local_files.locked(tmp_path / ".other", "held"):
        pass


def test_a_lock_file_that_its_last_holder_removed_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    path, flock, calls = tmp_path / ".lock", fcntl.flock, []

    def removed_just_before(descriptor, operation):
        calls.append(descriptor)
        if len(calls) == 1:
            path.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_just_before)
    with local_files.locked(path, "held"):
        with pytest.raises(UserError, match="^held$"), local_files.locked(path, "held"):
            pass


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_what_file_systems_say_of_a_held_lock_is_understood(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", lambda *_: raise_error(number))
    with pytest.raises(UserError, match="^held$"), local_files.locked(tmp_path / ".lock", "held"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_remarked_and_used(tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(fcntl, "flock", lambda *_: raise_error(number))
    ran = False
    with local_files.locked(tmp_path / ".lock", "held"):
        ran = True
    (line,) = capsys.readouterr().err.splitlines()
    assert ran and line.startswith(f"{tmp_path}/.lock: this file system has no locks")


def test_other_errors_of_locking_are_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: raise_error(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), local_files.locked(tmp_path / ".lock", "held"):
        pass


def raise_error(number):
    raise OSError(number, os.strerror(number))


def test_a_lock_file_is_never_a_link_to_somewhere_else_nor_a_folder(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("content")
    for name in (".lock", "folder", "file/.lock"):
        with pytest.raises(UserError, match=rf"{name}: cannot be opened as a lock file"):
            with local_files.locked(tmp_path / name, "held"):
                pass
    assert not (tmp_path / "elsewhere").exists() and content_of(tmp_path) == {"file": "content"}
