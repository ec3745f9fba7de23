import gc
import os
import sys
from dataclasses import replace

import psutil
import pytest

from avatar.cli import main
from avatar.commands.data import validate
from avatar.data.schema import Medium

pytestmark = pytest.mark.timeout(120)


def rows_of(text):
    return "".join(c for c in text if not c.isspace() and c not in "│┃")  # a folded table reads on


def checked(capsys, *arguments, **options):
    """(exit status, table of counts, table of what is wrong) of two decoders."""
    status = validate(*map(str, arguments), **{"jobs": 2} | options)
    out, err = capsys.readouterr()
    return status, rows_of(out), rows_of(err)


def test_a_good_folder_is_counted_and_passes(shards, capsys):
    status, counts, wrong = checked(capsys, shards)
    assert status == 0
    # 5 clips of a second: 5 / 3600 = 0.0014 hours
    assert "questions25clips5videowithsound5unreadable0hoursofsound0.00" in counts
    assert "cannotberead" not in wrong


def test_every_broken_clip_is_named_with_its_shard_and_cause_and_fails(broken, capsys):
    folder, bad = broken
    status, counts, wrong = checked(capsys, folder)
    assert status == 1
    assert "questions8clips3videowithsound3unreadable5" in counts
    assert all(f"00000.tar:{key}" in wrong for key in bad)
    assert "5cannotberead" in wrong
    for cause, count in {"cutshort": 2, "missingmedia": 1, "cannotbedecoded": 1, "nosound": 1}.items():
        assert f"{cause}{count}" in wrong


def test_a_broken_clip_counts_once_however_many_questions_show_it(make_tar, samples, capsys):
    raw = samples[0][2][0].to_json()
    status, counts, _ = checked(capsys, make_tar([("a.mp4", b"text"), ("a.q0.json", raw), ("a.q1.json", raw)]))
    assert status == 1
    assert "questions2clips0unreadable1" in counts


def test_a_clip_counts_once_however_many_questions_show_it_and_twice_if_it_is_shown_in_two_ways(
    make_tar, samples, capsys
):
    loud = samples[0][2][0]
    mute = replace(loud, use_audio_in_video=False)
    heard = replace(loud, media=[Medium("audio", "mp4", 0.5, 1.0)])
    members = [(f"a.q{i}.json", r.to_json()) for i, r in enumerate((loud, mute, heard, loud))]
    status, counts, _ = checked(capsys, make_tar([("a.mp4", samples[0][1]), *members]))
    assert status == 0
    assert "questions4clips3audio1video1videowithsound1unreadable0" in counts


@pytest.mark.parametrize("extra", [[], [("a.mp4", b"shown by no question")]])
def test_questions_without_media_are_fine(make_tar, record, capsys, extra):
    status, counts, _ = checked(capsys, make_tar([*extra, ("a.json", record.to_json())]))
    assert status == 0
    assert "questions1clips0unreadable0" in counts


def test_the_member_that_media_names_is_the_one_decoded(make_tar, samples, capsys):
    raw = samples[0][2][0].to_json().replace(b'"mp4"', b'"mov"')
    folder = make_tar([("a.mov", samples[0][1]), ("a.mp4", b"text"), ("a.json", raw)])
    status, counts, _ = checked(capsys, folder)
    assert status == 0
    assert "questions1clips1videowithsound1unreadable0" in counts


def test_brackets_are_printed_as_they_are(make_tar, capsys):
    status, counts, wrong = checked(capsys, make_tar([("[b]a.json", b"{}")], "made[red]"))
    assert status == 1
    assert "made[red]" in counts
    assert "made[red]/00000.tar:[b]a:" in wrong


def test_what_takes_too_long_ends_as_such_and_fails(shards, capsys):
    status, counts, wrong = checked(capsys, shards, time_limit=0.0005)
    assert status == 1
    assert "questions25clips0unreadable25" in counts
    assert "timelimit25" in wrong
    assert "train-000004/q4" in wrong


def test_a_sound_that_is_too_long_is_named(make_tar, samples, grey_mp4, capsys):
    raw = replace(samples[0][2][0], media=[Medium("audio", "mp4")]).to_json()
    folder = make_tar([("a.mp4", grey_mp4(16, 8)), ("a.json", raw), ("b.mp4", samples[0][1]), ("b.json", raw)])
    status, counts, wrong = checked(capsys, folder, max_audio_seconds=1.5)  # two seconds, and one
    assert status == 1
    assert "questions2clips1audio1unreadable1" in counts
    assert "soundtoolong1" in wrong
    assert checked(capsys, folder)[0] == 0


def test_clips_are_not_scaled_up_for_nothing(shards, monkeypatch):
    seen = []
    monkeypatch.setattr(sys.modules[validate.__module__].Totals, "add", lambda totals, prompt: seen.append(prompt))
    validate(str(shards), jobs=1)
    assert {tuple(prompt.clips[0].frames.shape) for prompt in seen} == {(8, 3, 56, 56)}


@pytest.mark.parametrize(("fixture", "status"), [("shards", 0), ("broken", 1)])
def test_the_command_exits_with_the_status(request, fixture, status, capsys):
    folder = request.getfixturevalue(fixture)
    assert main(["data", "validate", str(folder[0] if fixture == "broken" else folder), "--jobs", "2"]) == status


def test_the_command_tells_what_folder_is_not_there(tmp_path, capsys):
    assert main(["data", "validate", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such shard folder" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", [0, 1])
def test_any_number_of_jobs_finds_the_same(broken, capsys, jobs):
    assert checked(capsys, broken[0], jobs=jobs) == checked(capsys, broken[0])


def decoders():
    """Those of this process: children of the server that forks them."""
    return {p.pid for p in psutil.Process().children(recursive=True) if p.ppid() != os.getpid()}


@pytest.mark.parametrize("folder", ["shards", "broken"])
def test_no_decoder_is_left_when_it_is_over(request, folder):
    found = request.getfixturevalue(folder)
    gc.collect()
    before = decoders()
    validate(str(found[0] if folder == "broken" else found), jobs=2)
    gc.collect()
    assert decoders() <= before
