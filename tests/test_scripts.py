"""The set-up scripts say what to install where something is missing; the good path is walked by `make test` itself."""

import os
import stat
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def fake(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


def run(script: str, folder: Path, *args: str) -> subprocess.CompletedProcess:
    """With nothing on the path but the fakes and a shell's own tools."""
    for tool in ("env", "id", "tail", "bash", "sh"):
        (folder / tool).symlink_to(f"/usr/bin/{tool}" if Path(f"/usr/bin/{tool}").exists() else f"/bin/{tool}")
    env = {"PATH": str(folder), "HOME": os.environ.get("HOME", "/")}
    command = [str(folder / "bash"), str(ROOT / "scripts" / script), *args]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder)


def test_without_venv_the_debian_package_is_named(tmp_path):
    fake(tmp_path, "python3", 'case "$2" in *venv*) exit 1;; esac')
    done = run("make_venv.sh", tmp_path)
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr


def test_an_old_python_is_refused_with_what_is_needed(tmp_path):
    fake(tmp_path, "python3", "exit 1")
    done = run("make_venv.sh", tmp_path)
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr


def test_without_ffmpeg_and_a_package_manager_it_says_what_to_install(tmp_path):
    fake(tmp_path, "python", 'echo "no libavcodec" >&2; exit 1')
    done = run("ensure_ffmpeg.sh", tmp_path, str(tmp_path / "python"))
    assert done.returncode == 1
    assert "apt-get install ffmpeg" in done.stderr
    assert "brew install ffmpeg" in done.stderr
    assert "no libavcodec" in done.stderr


def test_where_ffmpeg_works_nothing_is_installed(tmp_path):
    fake(tmp_path, "python", "exit 0")
    fake(tmp_path, "apt-get", "echo installed > called")
    assert run("ensure_ffmpeg.sh", tmp_path, str(tmp_path / "python")).returncode == 0
    assert not (tmp_path / "called").exists()


def test_where_it_does_not_work_apt_is_asked_and_the_outcome_checked(tmp_path):
    fake(tmp_path, "python", "test -e called")
    fake(tmp_path, "sudo", '"$@"')
    fake(tmp_path, "apt-get", 'case "$*" in *install*) echo installed > called;; esac')
    assert run("ensure_ffmpeg.sh", tmp_path, str(tmp_path / "python")).returncode == 0
