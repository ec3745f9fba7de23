import pytest

from avatar.commands.data import validate


def rows_of(text):
    return "".join(c for c in text if not c.isspace() and c not in "│┃")  # a folded table reads on


def test_a_good_folder_is_counted_and_passes(shards, capsys):
    assert validate(str(shards)) == 0
    assert "clips5questions25unreadable0" in rows_of(capsys.readouterr().out)


def test_every_broken_clip_is_named_with_its_shard_and_fails(broken, capsys):
    folder, bad = broken
    assert validate(str(folder)) == 1
    shown = rows_of(capsys.readouterr().out)
    assert "clips3questions8unreadable5" in shown
    assert all(f"00000.tar:{key}" in shown for key in bad)


def test_a_broken_clip_counts_once_however_many_questions_show_it(make_tar, samples, capsys):
    raw = samples[0][2][0].to_json()
    assert validate(str(make_tar([("a.mp4", b"text"), ("a.q0.json", raw), ("a.q1.json", raw)]))) == 1
    assert "clips0questions2unreadable1" in rows_of(capsys.readouterr().out)


@pytest.mark.parametrize("extra", [[], [("a.mp4", b"shown by no question")]])
def test_questions_without_media_are_fine(make_tar, record, capsys, extra):
    assert validate(str(make_tar([*extra, ("a.json", record.to_json())]))) == 0
    assert "clips0questions1unreadable0" in rows_of(capsys.readouterr().out)


def test_the_member_that_media_names_is_the_one_decoded(make_tar, samples, capsys):
    raw = samples[0][2][0].to_json().replace(b'"mp4"', b'"mov"')
    assert validate(str(make_tar([("a.mov", samples[0][1]), ("a.mp4", b"text"), ("a.json", raw)]))) == 0
    assert "clips1questions1unreadable0" in rows_of(capsys.readouterr().out)


def test_brackets_are_printed_as_they_are(make_tar, capsys):
    assert validate(str(make_tar([("[b]a.json", b"{}")], "made[red]"))) == 1
    shown = rows_of(capsys.readouterr().out)
    assert "made[red]/00000.tar:[b]a:" in shown
