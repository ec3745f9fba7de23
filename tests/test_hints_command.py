"""``avatar hints write`` against a real server: what is sent, what is written, what a kill leaves, what it costs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
import torch
from tests_chat_server import ChatServer, ok, says, slow, status
from tests_replay import Always, KeepSteps, fit, module_of

from avatar import cli
from avatar.commands.hints.show import Prices, Tally
from avatar.commands.hints.teacher import LEAKED, find_fault, pose, tidy
from avatar.data.hints import NAME, Hints
from avatar.data.index import ShardIndex
from avatar.data.leaks import leaks
from avatar.data.micro import draw_split, render_mp4
from avatar.data.schema import parse_record
from avatar.data.shards import write_shards
from avatar.errors import ConfigError
from avatar.types import Clip, Prompt

pytestmark = pytest.mark.timeout(120)
NUM_CLIPS = 4  # of five questions each
TOTAL = 5 * NUM_CLIPS
GOOD = "Listen to the whole clip before you look."


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(key, mp4, records without hints) of four clips."""
    drawn = draw_split("train", NUM_CLIPS, seed=0)
    return [(key, render_mp4(scene), [replace(r, hint=None) for r in records]) for key, scene, records in drawn]


@pytest.fixture
def folder(made, tmp_path):
    write_shards(tmp_path / "clips", made, 2)
    return tmp_path / "clips"


@pytest.fixture
def teacher():
    """Start a teacher; it says what ``answer`` says, a good hint by default."""
    servers = []

    def start(answer=lambda request: json.dumps({"hint": GOOD}), **options):
        servers.append(ChatServer(answer, models=["teacher"], **options))
        return servers[-1].__enter__()

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(autouse=True)
def _wide_console(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def arguments(data, server, *more):
    return ["hints", "write", str(data), f"--endpoint={server.endpoint}", "--model=teacher", "--num_workers=1", *more]


def run(data, server, *more):
    return cli.main(arguments(data, server, *more))


def lines_in(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def question_in(request):
    return request["messages"][1]["content"][-1]["text"]


def records_in(folder):
    return {entry.key: parse_record(entry.record.read(), entry.key) for entry in ShardIndex(folder)}


def row(printed, name):
    """The second cell of a table's row."""
    [found] = [line for line in printed.splitlines() if line.startswith("│") and line.split("│")[1].strip() == name]
    return found.split("│")[2].strip()


# -- what is written ---------------------------------------------------------------------------------------------------


def test_every_record_gets_a_hint_beside_the_shards_and_the_shards_stay_as_they_are(folder, teacher, capsys):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    server = teacher()
    assert run(folder, server, "--concurrency=3") == 0
    lines = lines_in(folder / NAME)
    assert {line["key"] for line in lines} == set(ShardIndex(folder).keys())
    how = {"model": "teacher", "teacher": 1, "num_frames": 8, "shown_answer": False}
    assert all(line == {"key": line["key"], "hint": GOOD, **how} for line in lines)
    assert {path.name for path in folder.iterdir()} == {*before, NAME}
    assert all((folder / name).read_bytes() == content for name, content in before.items())
    assert len(server.requests) == TOTAL
    assert server.peak <= 3
    printed = capsys.readouterr().out
    assert row(printed, "written") == str(TOTAL)
    assert printed.count(GOOD) == 3  # samples
    assert f"hints: {folder}/{NAME}" in printed


def test_the_teacher_sees_frames_and_question_and_not_the_answer(folder, teacher):
    server = teacher()
    run(folder, server, "--num_frames=4", "--limit=5")
    assert len(server.requests) == 5
    for request in server.requests:
        content = request["messages"][1]["content"]
        assert [part["type"] for part in content] == ["text", *["image_url"] * 4, "text"]
        assert content[0]["text"].startswith("Clip 1: frames of a video at 0.0")
        assert "which is more ?\nA. sound\nB. flash\nC. same" in question_in(request) or "?" in question_in(request)
        assert request["response_format"]["json_schema"]["schema"]["required"] == ["hint"]
    asked = {question_in(request) for request in server.requests}
    records = list(records_in(folder).values())[:5]
    told = {f"Question: {r.question}" + "".join(f"\n{c}. {o}" for c, o in zip("ABCD", r.options)) for r in records}  # noqa: B905
    assert asked == told


def test_the_answer_is_shown_when_that_is_wanted(folder, teacher):
    server = teacher()
    run(folder, server, "--show_answer=true")
    told = Counter(question_in(request).rpartition("must not tell it: ")[2] for request in server.requests)
    golds = Counter()
    for record in records_in(folder).values():
        letters = {option: letter for letter, option in zip("ABCD", record.options, strict=False)}
        golds[f"{letters[record.answer]}. {record.answer}" if record.options else record.answer] += 1
    assert told == golds
    assert all(line["shown_answer"] for line in lines_in(folder / NAME))


def test_no_hint_that_is_written_leaks_whatever_the_teacher_says(folder, teacher):
    """Most of what it says tells some answer or other, in disguise; it is asked three times at most."""
    rng = Random(0)
    said = [
        "2",
        "t w o",
        "\uff34\uff37\uff2f",
        "th\u200bree",
        "one.",
        "FOUR",
        "red",
        "bl-ue",
        "B.",
        "option A",
        "f-l-a-s-h",
    ]

    def answer(request):
        return json.dumps({"hint": f"look for {' and '.join(rng.sample(said, 3))}" if rng.random() < 0.7 else GOOD})

    server = teacher(answer)
    run(folder, server)
    records, lines = records_in(folder), lines_in(folder / NAME)
    assert len(server.requests) > TOTAL
    assert len(lines) > TOTAL / 2
    assert any(line["hint"] != GOOD for line in lines)
    for line in lines:
        record = records[line["key"]]
        assert leaks(line["hint"], record.answer, record.problem_type, record.options) is None


def test_an_answer_that_is_named_is_asked_again_with_a_complaint_that_does_not_tell_and_then_left_out(
    folder, teacher, capsys
):
    """The complaint is the same for right and wrong guesses; only the questions for the more frequent get a hint."""
    said = "two or three red ones"
    server = teacher(lambda request: json.dumps({"hint": said}))
    assert run(folder, server) == 1
    records = records_in(folder).values()
    right = sum(leaks(said, r.answer, r.problem_type, r.options) is not None for r in records)
    refused = 4 * NUM_CLIPS
    assert 0 < right < refused
    assert len(server.requests) == TOTAL + 2 * refused
    assert len(lines_in(folder / NAME)) == TOTAL - refused
    again = [request["messages"] for request in server.requests if len(request["messages"]) > 2]
    assert Counter(map(len, again)) == {4: refused, 6: refused}
    assert all(m[2] == {"role": "assistant", "content": json.dumps({"hint": said})} for m in again)
    assert {m[3]["content"] for m in again} == {LEAKED}
    captured = capsys.readouterr()
    assert row(captured.out, "tells the answer") == str(right)
    assert row(captured.out, "guesses an answer") == str(refused - right)
    failed = lines_in(folder / "hints.failed.jsonl")
    assert len(failed) == refused
    assert failed[0]["key"] in captured.err


def test_a_second_hint_that_is_good_is_written(folder, teacher):
    def answer(request):
        first = len(request["messages"]) == 2
        return json.dumps({"hint": "Look. Then listen." if first else GOOD})

    server = teacher(answer)
    assert run(folder, server) == 0
    assert len(server.requests) == 2 * TOTAL
    assert {line["hint"] for line in lines_in(folder / NAME)} == {GOOD}


# -- going on ----------------------------------------------------------------------------------------------------------


def start(data, server, *more):
    command = [sys.executable, "-m", "avatar.cli", *arguments(data, server, *more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_and_asks_for_no_hint_twice_that_is_written(folder, teacher, kind):
    server, path = teacher(then=slow(0.15)), folder / NAME
    process = start(folder, server, "--concurrency=2")
    while not path.exists() or path.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(kind)
    printed = process.communicate(timeout=30)[0]
    if kind == signal.SIGINT:
        assert process.returncode == 130
        assert f"{path} holds what is done; the same command goes on from there" in printed
        assert "Traceback" not in printed
    written = path.read_bytes().count(b"\n")
    assert 5 <= written < TOTAL
    with path.open("ab") as file:
        file.write(b'{"key": "train-0000')  # as a kill in the midst of a write would leave it
    server.requests.clear()
    assert run(folder, server, "--concurrency=2") == 0
    assert len(server.requests) == TOTAL - written
    lines = lines_in(path)
    assert len(lines) == len({line["key"] for line in lines}) == TOTAL


def test_the_same_command_again_asks_nothing_and_with_overwrite_only_what_another_teacher_wrote(folder, teacher):
    server, path = teacher(), folder / NAME
    assert run(folder, server, "--limit=6") == 0
    assert len(server.requests) == 6
    run(folder, server)
    assert len(server.requests) == TOTAL
    before = path.read_bytes()
    run(folder, server)
    assert len(server.requests) == TOTAL
    assert path.read_bytes() == before
    run(folder, server, "--overwrite=true")
    assert len(server.requests) == TOTAL
    server.answer = lambda request: json.dumps({"hint": "Look at all of it."})
    run(folder, server, "--overwrite=true", "--num_frames=2", "--limit=7")
    run(folder, server, "--overwrite=true", "--num_frames=2")
    assert len(server.requests) == 2 * TOTAL
    hints = Hints(path)
    assert {hints.get(key)["hint"] for key in ShardIndex(folder).keys()} == {"Look at all of it."}  # noqa: SIM118


def test_hints_of_the_records_own_are_kept_unless_they_are_to_be_replaced(made, tmp_path, teacher, capsys):
    key, mp4, records = made[0]
    own = [replace(records[0], hint="its own"), *records[1:]]
    write_shards(tmp_path / "own", [(key, mp4, own)])
    server = teacher()
    run(tmp_path / "own", server)
    assert row(capsys.readouterr().out, "with a hint before") == "1"
    assert [line["key"] for line in lines_in(tmp_path / "own" / NAME)].count(f"{key}/q0") == 0
    run(tmp_path / "own", server, "--overwrite=true")
    assert lines_in(tmp_path / "own" / NAME)[-1]["key"] == f"{key}/q0"
    assert len(server.requests) == 5
    assert "its own" not in json.dumps(server.requests)


def test_what_failed_is_tried_again_the_next_time(folder, teacher):
    server = teacher(script=[status(400), says("no JSON"), says("no JSON"), ok])
    assert run(folder, server, "--attempts=1", "--concurrency=1") == 1
    failed = lines_in(folder / "hints.failed.jsonl")
    assert [line["cause"] for line in failed] == ["refused", "not what was asked for", "not what was asked for"]
    assert len(lines_in(folder / NAME)) == TOTAL - 3
    server.requests.clear()
    assert run(folder, server) == 0
    assert len(server.requests) == 3
    assert not (folder / "hints.failed.jsonl").exists()


# -- a server in trouble -----------------------------------------------------------------------------------------------


def test_a_server_that_fails_for_a_moment_is_asked_again(folder, teacher):
    server = teacher(script=[status(500), status(503, Retry_After="0"), ok])
    assert run(folder, server, "--concurrency=1") == 0
    assert len(server.requests) == TOTAL + 2
    assert len(lines_in(folder / NAME)) == TOTAL


@pytest.mark.parametrize("behaviour", [status(500), status(401)])
def test_a_server_that_answers_nothing_any_more_is_given_up(folder, teacher, capsys, behaviour):
    server = teacher(script=[ok] * 4, then=behaviour)
    assert run(folder, server, "--attempts=1", "--concurrency=1") == 1
    assert len(server.requests) <= 4 + 4  # rounds of four
    assert len(lines_in(folder / NAME)) == 4
    printed = capsys.readouterr().out
    assert "stopped, for nothing was answered any more" in printed
    assert "The same command goes on" in printed
    assert row(printed, "not come to") == str(TOTAL - 8)


def test_a_teacher_that_cannot_be_read_from_the_start_is_given_up(folder, teacher, capsys):
    server = teacher(script=[], then=says("Listen first."))
    assert run(folder, server, "--attempts=2", "--concurrency=1") == 1
    assert len(server.requests) == 2 * 4  # a round of four, each asked twice
    assert "stopped, for nothing was answered any more" in capsys.readouterr().out


def test_a_server_that_is_not_there_is_told_before_anything_is_decoded(folder, teacher, capsys):
    server = teacher()
    server.stop()
    assert run(folder, server, "--attempts=1") == 2
    assert server.endpoint in capsys.readouterr().err
    assert not (folder / NAME).exists()


# -- tokens and cost ---------------------------------------------------------------------------------------------------


def test_the_cost_is_that_of_all_tokens_those_of_bad_answers_too(folder, teacher, capsys):
    """11 tokens in and 5 out a request; 20 hints and one bad answer: 231 and 105; 231 * 2 + 105 * 10 = 1512 e-6 USD."""
    server = teacher(script=[says("no JSON")])
    run(folder, server, "--price_in=2", "--price_out=10")
    printed = capsys.readouterr().out
    assert row(printed, "requests") == "21"
    assert row(printed, "tokens in") == "231"
    assert row(printed, "tokens out") == "105"
    assert row(printed, "cost") == "0.0015 USD"


def test_without_prices_there_is_no_cost(folder, teacher, capsys):
    run(folder, teacher(), "--limit=1")
    assert "USD" not in capsys.readouterr().out
    with pytest.raises(ConfigError, match="belong together"):
        Prices(1.0, None)
    with pytest.raises(ConfigError, match="0 or more"):
        Prices(-1.0, 1.0)


def test_replies_in_the_cache_are_not_paid_for_twice(folder, teacher, tmp_path, capsys):
    server = teacher()
    run(folder, server, f"--cache={tmp_path}/replies")
    (folder / NAME).unlink()
    capsys.readouterr()
    run(folder, server, f"--cache={tmp_path}/replies", "--price_in=2", "--price_out=10")
    printed = capsys.readouterr().out
    assert row(printed, "requests") == f"0, {TOTAL} from the cache"
    assert row(printed, "cost") == "0.0000 USD"
    assert len(server.requests) == TOTAL
    assert len(lines_in(folder / NAME)) == TOTAL


# -- before anything is asked ------------------------------------------------------------------------------------------


def test_a_dry_run_asks_and_writes_nothing_and_shows_a_request(folder, teacher, capsys):
    server = teacher()
    before = set(folder.iterdir())
    assert run(folder, server, "--dry_run=true", "--limit=3", "--num_frames=2") == 0
    assert not server.paths
    assert set(folder.iterdir()) == before
    printed = capsys.readouterr().out
    assert f"{folder}: teacher would be asked for 3 hints; 0 of {TOTAL} records have one. Nothing was asked" in printed
    messages = json.loads(printed[printed.index("[\n") :])
    assert [m["role"] for m in messages] == ["system", "user"]
    urls = [part["image_url"]["url"] for part in messages[1]["content"] if part["type"] == "image_url"]
    assert len(urls) == 2
    assert all(url.startswith("data:image/jpeg;base64,<") and url.endswith(" bytes>") for url in urls)


def test_a_clip_that_cannot_be_read_is_named_and_the_others_go_on(made, tmp_path, teacher, capsys):
    broken = [(key, mp4[: len(mp4) // 2] if i == 1 else mp4, records) for i, (key, mp4, records) in enumerate(made)]
    write_shards(tmp_path / "broken", broken, 2)
    server = teacher()
    assert run(tmp_path / "broken", server) == 1
    assert len(server.requests) == TOTAL - 5
    captured = capsys.readouterr()
    assert row(captured.out, "cut short") == "5"
    assert f"{broken[1][0]}.mp4: the file is cut short" in captured.err
    assert {line["key"] for line in lines_in(tmp_path / "broken" / "hints.failed.jsonl")} == {
        f"{broken[1][0]}/q{i}" for i in range(5)
    }


@pytest.mark.parametrize(
    ("more", "says_"),
    [
        (["--num_frames=0"], "num_frames must be at least 1"),
        (["--limit=0"], "limit must be at least 1"),
        (["--price_in=1"], "belong together"),
        (["--media_root=x"], "--media_root is for JSONL"),
        (["--out=/proc/none/hints.jsonl"], "cannot be written there"),
    ],
)
def test_a_wrong_argument_is_told(folder, teacher, capsys, more, says_):
    assert run(folder, teacher(), *more) == 2
    assert says_ in capsys.readouterr().err


def test_shards_that_lie_elsewhere_want_a_file_for_their_hints(folder, teacher, capsys):
    shutil.copytree(folder, folder.parent / "others")
    for shard in (folder.parent / "others").glob("00000.*"):
        shard.unlink()
    (folder / "00001.tar").unlink()
    spelt = f"{folder.parent}/{{clips/00000,others/00001}}.tar"
    assert run(spelt, teacher()) == 2
    assert "several folders" in capsys.readouterr().err
    assert run(spelt, teacher(), f"--out={folder.parent}/both.jsonl") == 0
    assert len(lines_in(folder.parent / "both.jsonl")) == TOTAL


def test_two_runs_do_not_write_the_same_file(folder, teacher, capsys):
    server = teacher(then=slow(0.5))
    process = start(folder, server, "--concurrency=1")
    while not (folder / NAME).exists():
        time.sleep(0.02)
    assert run(folder, server) == 2
    assert "is being written by another process" in capsys.readouterr().err
    process.kill()
    process.communicate()


# -- before packing ----------------------------------------------------------------------------------------------------


@pytest.fixture
def source(made, tmp_path):
    """A JSONL file of ours with its media; every other record has a key, one line is broken, one clip is missing."""
    (tmp_path / "media").mkdir()
    lines = []
    for i, (key, mp4, records) in enumerate(made):
        (tmp_path / "media" / f"{key}.mp4").write_bytes(mp4)
        for j, record in enumerate(records):
            fields = json.loads(record.to_json()) | {"media": [{"video": f"media/{key}.mp4"}]}
            fields |= {"key": f"{key}/{j}"} if (i + j) % 2 else {"hint": None}
            lines.append(json.dumps(fields, ensure_ascii=False))
    lines[3] = json.dumps(json.loads(lines[3]) | {"media": [{"video": "media/gone.mp4"}]})
    lines[4] = "{no"
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_jsonl_file_gets_a_copy_with_hints_and_its_media_stay_where_they_are(source, teacher, capsys):
    before, server = source.read_bytes(), teacher()
    assert run(source, server) == 1
    assert source.read_bytes() == before
    assert len(server.requests) == TOTAL - 2
    given = [json.loads(line) if line != "{no" else None for line in before.decode().splitlines()]
    expected = [{**fields, "hint": GOOD} for i, fields in enumerate(given) if fields and i != 3]
    expected.insert(3, given[3])  # no clip, no hint
    assert lines_in(source.with_name("train.hinted.jsonl")) == expected
    failed = lines_in(source.with_name("train.hinted.hints.failed.jsonl"))
    assert {line["key"] for line in failed} == {"train.jsonl:4", "train.jsonl:5"}
    assert "gone.mp4" in capsys.readouterr().err
    shutil.copy(source.parent / "media" / "train-000000.mp4", source.parent / "media" / "gone.mp4")
    assert run(source, server) == 1
    assert len(server.requests) == TOTAL - 1  # only for what had none
    assert lines_in(source.with_name("train.hinted.jsonl"))[3]["hint"] == GOOD


def test_a_line_without_a_key_keeps_its_hint_wherever_it_stands(source, teacher):
    run(source, teacher())
    lines = source.read_text().splitlines()
    source.write_text("\n".join(reversed(lines)) + "\n")
    server = teacher()
    run(source, server)
    assert not server.requests


def test_of_two_lines_with_one_key_the_second_gets_no_hint(source, teacher, capsys):
    given = [json.loads(line) for line in source.read_text().splitlines() if '"key"' in line]
    first = next(fields for fields in given if fields["problem_type"] == "number")
    source.write_text("\n".join(json.dumps({**first, "answer": a}) for a in ("2", "3")) + "\n")
    assert run(source, teacher()) == 1
    assert "is that of train.jsonl:1 too" in capsys.readouterr().err
    assert [line.get("hint") for line in lines_in(source.with_name("train.hinted.jsonl"))] == [GOOD, None]


def test_a_file_that_is_none_of_ours_is_left_alone(source, teacher, capsys):
    out = source.with_name("mine.jsonl")
    out.write_text("mine")
    assert run(source, teacher(), f"--out={out}") == 2
    assert out.read_text() == "mine"
    assert run(source, teacher(), f"--out={source}") == 2
    source.write_text('{"messages": [], "videos": []}\n')
    assert run(source, teacher()) == 2
    assert "no JSONL of our records" in capsys.readouterr().err
    assert run(source.with_name("absent.jsonl"), teacher()) == 2


# -- what the teacher is told ------------------------------------------------------------------------------------------


def prompt_of(clips=(), **fields):
    defaults = {"messages": [{"role": "user", "content": "how many ?"}], "answer": "3", "problem_type": "number"}
    return Prompt("k", clips=tuple(clips), **(defaults | fields))


def frames(number):
    return torch.zeros(number, 3, 28, 28, dtype=torch.uint8)


def test_each_kind_of_clip_is_told_as_what_it_is():
    sound = torch.zeros(24_000)
    clips = [
        Clip("a", frames(2), 2.0, sound),
        Clip("b", frames(3), times=torch.tensor([0.0, 1.25, 9.0], dtype=torch.float64)),
        Clip("c", frames(1), image=True),
        Clip("d", audio=sound),
    ]
    content = pose(prompt_of(clips, audio_caption="a dog barks")).messages[1]["content"]
    kinds = "".join("i" if part["type"] == "image_url" else "t" for part in content)
    assert kinds == "tii" + "tiii" + "ti" + "t" + "t"
    told = [part["text"] for part in content if part["type"] == "text"]
    assert told[:4] == [
        "Clip 1: frames of a video at 0.0, 0.5 s, with a sound track that the student hears and you do not.",
        "Clip 2: frames of a video at 0.0, 1.2, 9.0 s.",
        "Clip 3: a picture.",
        "Clip 4: a sound of 1.5 s, which the student hears and you do not.",
    ]
    assert told[4] == "What is heard: a dog barks\nQuestion: how many ?"


def test_a_longer_chat_is_told_without_its_system_message_and_without_the_hint_that_is_there():
    messages = [
        {"role": "system", "content": "think first"},
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "who ?"}]},
        {"role": "assistant", "content": "she"},
        {"role": "user", "content": "and when ?"},
    ]
    question = pose(prompt_of(messages=messages, hint="look left").with_hint())
    assert question.text == "user: who ?\nassistant: she\nuser: and when ?"
    assert "look left" not in json.dumps(question.messages)
    assert "think first" not in json.dumps(question.messages)


@pytest.mark.parametrize(
    ("hint", "cause"),
    [
        ("", "empty"),
        ("look at <|im_end|>", "markup"),
        ("<think>look</think> again", "markup"),
        ("there are three", "tells the answer"),
        ("there are four", "guesses an answer"),
        ("there are 14", "guesses an answer"),
        ("look at one after the other", None),
        ("look " * 31, "too long"),
        ("l" * 301, "too long"),
        ("Look. Then listen.", "several sentences"),
        ("Look! (Then listen.)", "several sentences"),
        ("先看。再听", "several sentences"),
        ("Look first, e.g. at the hands vs. the face, then listen.", None),
        ("Compare both halves (left, then right).", None),
        ("Is the sound < the picture ?", None),
    ],
)
def test_what_is_no_single_sentence_of_strategy_is_refused(hint, cause):
    found = find_fault(tidy(hint), pose(prompt_of()))
    assert (found and found[0]) == cause
    assert found is None or ("three" not in found[2] and "3" not in found[2].replace("30", ""))


def test_an_option_must_not_be_named_be_it_right_or_wrong():
    question = pose(prompt_of(problem_type="choice", options=("dog", "cat", "bird"), answer="B"))
    assert find_fault("listen for the cat", question)[0] == "tells the answer"
    assert find_fault("listen for the dog", question)[0] == "guesses an answer"
    assert find_fault("C. is loud", question)[0] == "guesses an answer"
    assert find_fault("compare dog, cat and bird", question) is None


def test_a_hint_is_one_line_without_quotes():
    assert tidy(' "look\n first "') == "look first"
    assert tidy('"') == '"'
    assert tidy("look\u200b at\x1b[2J it\u202e") == "look at[2J it"


def test_samples_are_any_three_of_what_was_written():
    seen = Counter()
    for seed in range(300):
        tally = Tally(10, _rng=Random(seed))
        for i in range(10):
            tally.write(str(i), "q", "h")
        assert len(tally.samples) == 3
        seen.update(key for key, _, _ in tally.samples)
    assert min(seen[str(i)] for i in range(10)) > 50  # 90 are expected


# -- in training -------------------------------------------------------------------------------------------------------


def test_training_shows_the_policy_a_hint_that_was_written(micro, tmp_path, teacher):
    """The records' own hints are replaced; half of each prompt's completions see the new one."""
    world = tmp_path / "micro"
    shutil.copytree(micro, world)
    new = "look and listen first , then look"
    assert run(world / "dev", teacher(lambda request: json.dumps({"hint": new})), "--overwrite=true") == 0
    keep = KeepSteps()
    fit(module_of(world, hints=Always()), world, tmp_path, 2, callbacks=[keep])
    for rollout, metrics in zip(keep.rollouts, keep.metrics, strict=True):
        assert [f"Hint: {new}" in str(p.messages) for p in rollout.posed.prompts] == [False, False, True, True]
        assert all(prompt.hint == new for prompt in rollout.posed.prompts)
        assert metrics["hint/share"] == 1
