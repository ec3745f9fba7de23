"""Each bad file ends as a clip with all that is declared, or as an error that says which file and why."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from data.bad_media import BAD_MEDIA, DEADLY

from avatar.data.media import decode_medium, probe
from avatar.errors import DataError

CAUSES = {
    "broken record", "missing media", "broken shard", "cut short", "cannot be decoded", "no picture", "no sound",
    "sound too short", "sound too long", "too large", "not allowed", "time limit", "decoder crashed", "duplicate key",
}  # fmt: skip
WHERE = "shards/00000.tar: clip-7.mp4"


def same(clip, wanted):
    frames = 0 if clip.frames is None else len(clip.frames)
    seconds = 0 if clip.audio is None else len(clip.audio) / 16_000
    if frames != wanted.frames or (frames and tuple(clip.frames.shape[1:]) != (3, *wanted.size)):
        return False
    return abs(seconds - wanted.seconds) < 0.01 and abs(clip.fps - wanted.fps) < 0.01


def outcome(look, *args):
    """What it gives, or its error."""
    try:
        return look(*args)
    except DataError as error:
        return error


def check_declared(clip, case):
    """All modalities that the record declares, of sane values."""
    assert clip.kind == case.medium.kind
    if case.medium.kind != "audio":
        assert clip.frames.dtype == torch.uint8
    if case.medium.kind == "video":
        assert (clip.times.diff() > 0).all()
        assert clip.times[0] >= 0
    if case.medium.kind == "audio" or (case.medium.kind == "video" and case.use_audio):
        assert clip.audio.dtype == torch.float32
        assert torch.isfinite(clip.audio).all()
        assert 0.1 < clip.audio.abs().max() <= 1


@pytest.mark.timeout(30)
@pytest.mark.parametrize("case", BAD_MEDIA, ids=lambda case: case.name)
def test_a_bad_file_gives_all_that_is_declared_or_an_error_that_names_it(case):
    started = time.process_time()
    found = outcome(decode_medium, case.payload, case.medium, case.use_audio, case.rule, WHERE, "key")
    assert time.process_time() - started < 5
    if isinstance(found, DataError):
        assert found.cause in case.causes & CAUSES, found
        assert str(found).startswith(WHERE + ": ")
        assert ".cpp" not in str(found)
    else:
        check_declared(found, case)
        assert any(same(found, wanted) for wanted in case.clips), found


def test_there_are_over_thirty_of_them_under_names_of_their_own():
    assert len({case.name for case in BAD_MEDIA}) == len(BAD_MEDIA) > 30


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["video", "audio", "image"])
def test_a_look_at_the_header_of_any_of_them_is_an_answer_or_an_error_that_names_it(kind):
    for case in BAD_MEDIA:
        found = outcome(probe, case.payload, kind, WHERE)
        if isinstance(found, DataError):
            assert str(found).startswith(WHERE + ": "), case.name
            assert found.cause in CAUSES, case.name
        else:
            assert found.seconds >= 0, case.name


SCRIPT = """
import resource
from data.bad_media import BAD_MEDIA, DEADLY
from avatar.data.media import decode_medium
from avatar.errors import DataError

def size():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = size()
for case in BAD_MEDIA + DEADLY:
    if case is DEADLY[0]:
        print("survived", size() - before, flush=True)
    try:
        decode_medium(case.payload, case.medium, case.use_audio, case.rule, "where", "key")
    except DataError as error:
        outcome = error.cause
    else:
        outcome = "clip"
    if case in DEADLY:
        print(case.name, outcome, sep=": ", flush=True)
"""


@pytest.mark.timeout(120)
def test_none_of_them_kills_its_process_or_makes_it_large_and_the_deadly_ones_at_least_give_no_clip():
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=tests.parent, timeout=100,
        env={"PYTHONPATH": f"{tests}:{tests.parent}", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    survived, *deadly = done.stdout.splitlines()
    kilobytes = int(survived.split()[-1]) // (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 2**20  # 1 GB beyond what the imports took
    assert done.returncode in (0, -signal.SIGSEGV, -signal.SIGABRT), done.stderr[-2000:]
    assert done.returncode or len(deadly) == len(DEADLY)
    for line, case in zip(deadly, DEADLY, strict=False):
        assert line.removeprefix(f"{case.name}: ") in case.causes
