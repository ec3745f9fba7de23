"""Each format as its makers write it, down to our fields; and which format a file is taken for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.data.pack import FORMATS, Embedded, Shown
from avatar.data.pack.guess import find_source
from avatar.data.pack.messages import place_media, split_tags
from avatar.data.schema import MEDIA_KINDS, record_from_fields
from avatar.errors import ConfigError, DataError


def read(name, row, tmp_path="."):
    """The draft, after a look that the schema takes it."""
    draft = FORMATS[name](tmp_path).read(row)
    record_from_fields(
        {**draft.fields, "media": [{s.kind: "x", "start": s.start, "end": s.end} for s in draft.media]}, "row"
    )
    return draft


# -- ours --------------------------------------------------------------------------------------------------------------

OURS = {
    "key": "clip/q0",
    "question": "which?",
    "answer": "B",
    "problem_type": "choice",
    "options": ["A. red", "B. green"],
    "media": [{"video": "a.mp4", "start": 1, "end": 2.5}, {"image": "b.png"}],
    "use_audio_in_video": True,
    "hint": None,
    "metadata": {"kind": "colour"},
}


def test_our_own_record_stays_as_it_is_but_for_the_letters():
    draft = read("jsonl", OURS)
    assert draft.key == "clip/q0"
    assert draft.media == [Shown("video", "a.mp4", 1, 2.5), Shown("image", "b.png")]
    kept = {name: OURS[name] for name in ("question", "answer", "problem_type", "use_audio_in_video", "metadata")}
    assert draft.fields == {**kept, "options": ["red", "green"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"qestion": "typo"}, "unknown field 'qestion'"),
        ({"media": {"video": "a.mp4"}}, "field 'media' must be a list"),
        ({"media": [{"film": "a.mp4"}]}, r"media\[0\] must be an object with one of video, image, audio"),
        ({"media": [{"video": "a.mp4", "sped": 2}]}, r"media\[0\]: unknown field 'sped'"),
        ({"media": [{"video": ["a.mp4", "b.mp4"]}]}, r"media\[0\] must name one file"),
        ({"media": [{"video": "a.mp4", "start": "1s"}]}, "start must be seconds"),
        ({"answer": "F"}, "gold answer 'F'"),
        ({"key": 5}, "field 'key' must be text"),
    ],
)
def test_a_wrong_field_of_our_own_is_named(change, said):
    with pytest.raises(DataError, match=said):
        read("jsonl", {**OURS, **change})


# -- messages ----------------------------------------------------------------------------------------------------------

# A row as the authors' release trains on it: a prompt, and beside it what its rewards read.
STAGE = {
    "prompt_id": "stage1/0007",
    "messages": [
        {"role": "system", "content": "Think first."},
        {"role": "user", "content": "<video>Which is heard?\nA. a dog\nB. a bell"},
    ],
    "videos": ["clips/a.mp4"],
    "solution": "<answer>B</answer>",
    "problem_type": "multiple_choice",
    "hint": "Listen before you look.",
    "audio_cues": "a bell rings",
    "source": "AVQA",
}


def test_a_row_of_the_release_is_read_whole():
    draft = read("messages", STAGE)
    assert (draft.key, draft.media) == ("stage1/0007", [Shown("video", "clips/a.mp4")])
    text = {"type": "text", "text": "Which is heard?\nA. a dog\nB. a bell"}
    assert draft.fields == {
        "messages": [STAGE["messages"][0], {"role": "user", "content": [{"type": "video"}, text]}],
        "answer": "B",
        "problem_type": "choice",
        "options": ["a dog", "a bell"],  # as they stand in the text
        "hint": "Listen before you look.",
        "audio_caption": "a bell rings",
        "metadata": {"source": "AVQA"},
    }


def test_the_assistants_last_word_is_the_chain_and_says_the_answer():
    chain = "<think>one, two</think><answer>2</answer>"
    row = {
        "messages": [{"role": "user", "content": "how many?"}, {"role": "assistant", "content": chain}],
        "images": {"path": "a.png"},
        "problem_type": "numerical",
    }
    draft = read("messages", row)
    assert (draft.fields["chain"], draft.fields["answer"]) == (chain, "2")
    assert draft.fields["messages"] == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "how many?"}]}
    ]
    assert draft.media == [Shown("image", "a.png")]


def test_tags_say_what_is_shown_where_over_several_turns():
    row = {
        "messages": [
            {"role": "user", "content": "<image>this, and <audio> that?"},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "and <image><video>?"},
        ],
        "images": ["1.png", "2.png"],
        "videos": "1.mp4",
        "audios": [{"bytes": b"wav", "path": None}],
        "answer": "no",
    }
    draft = read("messages", row)
    wav = Embedded(b"wav")
    assert draft.media == [
        Shown("image", "1.png"),
        Shown("audio", wav),
        Shown("image", "2.png"),
        Shown("video", "1.mp4"),
    ]
    kinds = [
        [p["type"] for p in m["content"]] if isinstance(m["content"], list) else "text"
        for m in draft.fields["messages"]
    ]
    assert kinds == [["image", "text", "audio", "text"], "text", ["text", "image", "video", "text"]]


def test_what_no_tag_names_comes_before_the_text_of_the_first_user_turn():
    turns = [("system", "s"), ("user", "<image>one?"), ("assistant", "yes"), ("user", "two?")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns], "images": "1.png", "answer": "no"}
    draft = read("messages", {**row, "videos": ["1.mp4"], "audios": ["1.wav"]})
    assert [shown.kind for shown in draft.media] == ["video", "audio", "image"]
    first = draft.fields["messages"][1]["content"]
    assert [part["type"] for part in first] == ["video", "audio", "image", "text"]


def test_parts_may_name_their_files_themselves():
    parts = [
        {"type": "video", "video": "a.mp4"},
        {"type": "text", "text": "how many?"},
        {"type": "image", "text": None},
    ]
    draft = read("messages", {"messages": [{"role": "user", "content": parts}], "images": ["b.png"], "answer": "2"})
    assert draft.media == [Shown("video", "a.mp4"), Shown("image", "b.png")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"videos": []}, "more <video> tags than files"),
        ({"videos": ["a.mp4", "b.mp4"]}, "2 files in 'videos', of which 1 have no <video> tag"),
        ({"solution": None}, "no gold answer"),
        ({"solution": "<answer>C</answer>"}, "gold answer 'C'"),
        ({"problem_type": "dance"}, "problem_type 'dance'"),
        ({"messages": []}, "list of messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role of system, user, assistant"),
        ({"messages": [{"role": "user", "content": 5}]}, "content must be text or a list of parts"),
        ({"messages": [{"role": "system", "content": "x"}], "videos": ["a.mp4"]}, "no turn of the user"),
        ({"messages": [{"role": "user", "content": "<video>which?"}]}, "needs its options"),
    ],
)
def test_a_chat_that_cannot_be_read_without_guessing_is_refused(change, said):
    with pytest.raises(DataError, match=said):
        read("messages", {**STAGE, **change})


def test_a_last_turn_without_tags_is_no_gold_answer():
    row = {"messages": [{"role": "user", "content": "which?"}, {"role": "assistant", "content": "B"}]}
    with pytest.raises(DataError, match="no gold answer"):
        read("messages", row)


TEXTS = st.text(alphabet="ab <>/\n", max_size=8)


@given(st.lists(st.tuples(TEXTS, st.sampled_from(MEDIA_KINDS)), max_size=8), TEXTS)
def test_splitting_at_tags_loses_nothing_and_keeps_the_order(pieces, last):
    content = "".join(f"{text}<{kind}>" for text, kind in pieces) + last
    parts = split_tags(content)
    assert "".join(p["text"] if p["type"] == "text" else f"<{p['type']}>" for p in parts) == content
    assert [p["type"] for p in parts if p["type"] != "text"] == [kind for _, kind in pieces]
    assert all(p["text"] for p in parts if p["type"] == "text")


@given(st.lists(st.lists(st.sampled_from(MEDIA_KINDS), max_size=4), min_size=1, max_size=4))
def test_each_tag_gets_the_next_file_of_its_kind(turns):
    tags = [kind for turn in turns for kind in turn]
    files = {kind: [f"{kind}{i}" for i in range(tags.count(kind))] for kind in MEDIA_KINDS}
    messages = [{"role": "user", "content": "x".join(f"<{kind}>" for kind in turn)} for turn in turns]
    placed, media = place_media(messages, files)
    assert [shown.kind for shown in media] == tags
    assert {kind: [s.file for s in media if s.kind == kind] for kind in MEDIA_KINDS} == files
    contents = [m["content"] if isinstance(m["content"], list) else [] for m in placed]
    assert [p["type"] for content in contents for p in content if p["type"] != "text"] == tags


# -- conversations -----------------------------------------------------------------------------------------------------

VIDEO_R1 = {
    "problem_id": 2,
    "problem": "What appears on the screen?",
    "data_type": "video",
    "problem_type": "multiple choice",
    "options": ["A. a cat", "B. a dog"],
    "process": "<think>It barks.</think>",
    "solution": "<answer>B</answer>",
    "path": "./clips/a.mp4",
    "data_source": "made/up",
}
ECHOINK = {
    "problem_id": 7,
    "problem": "Which is seen and heard?",
    "data_type": "image_audio",
    "problem_type": "multiple choice",
    "options": ["A. rain", "B. applause", "C. traffic", "D. birds"],
    "solution": "<answer>B</answer>",
    "path": {"image": "images/s.jpg", "audio": "audios/s.wav"},
}
LLAVA = {
    "id": "x_1",
    "video": "clips/a.mp4",
    "conversations": [
        {"from": "human", "value": "<video>\nHow many?"},
        {"from": "gpt", "value": "<think>1, 2</think><answer>2</answer>"},
    ],
}


def test_a_row_of_video_r1():
    draft = read("conversations", VIDEO_R1)
    assert (draft.key, draft.media) == ("2", [Shown("video", "./clips/a.mp4")])
    assert draft.fields == {
        "question": "What appears on the screen?",
        "answer": "B",
        "problem_type": "choice",
        "options": ["a cat", "a dog"],
        "chain": "<think>It barks.</think>\n<answer>B</answer>",
        "metadata": {"data_source": "made/up"},
    }


@pytest.mark.parametrize(
    ("kind", "solution", "ours", "answer"),
    [
        ("numerical", "<answer>3.5</answer>", "number", "3.5"),
        ("regression", 12, "number", "12"),
        ("OCR", "<answer>STOP</answer>", "ocr", "STOP"),
        ("free-form", "<answer>two cats</answer>", "free", "two cats"),
    ],
)
def test_its_other_problem_types(kind, solution, ours, answer):
    draft = read(
        "conversations", {**VIDEO_R1, "problem_type": kind, "options": [], "process": "", "solution": solution}
    )
    assert (draft.fields["problem_type"], draft.fields["answer"]) == (ours, answer)
    assert "chain" not in draft.fields


def test_thoughts_without_tags_get_them():
    assert read("conversations", {**VIDEO_R1, "process": "It barks."}).fields["chain"] == (
        "<think>It barks.</think>\n<answer>B</answer>"
    )


def test_a_row_of_echoink():
    assert read("conversations", ECHOINK).media == [Shown("image", "images/s.jpg"), Shown("audio", "audios/s.wav")]
    older = {
        **ECHOINK,
        "options": [{"label": c, "text": t} for c, t in zip("ABCD", "wxyz", strict=True)],
        "qa_type": "avqa",
    }
    assert read("conversations", older).fields["options"] == ["w", "x", "y", "z"]
    video = {**ECHOINK, "data_type": "video", "path": {"video": "v.mp4", "image": None}}
    assert read("conversations", video).media == [Shown("video", "v.mp4")]


def test_a_conversation_as_llava_has_it():
    draft = read("conversations", LLAVA)
    assert (draft.key, draft.media, draft.fields["answer"]) == ("x_1", [Shown("video", "clips/a.mp4")], "2")
    assert draft.fields["messages"] == [
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "\nHow many?"}]}
    ]


def test_a_conversation_with_lists_and_a_system_message():
    row = {
        "conversations": [{"from": "human", "value": "<image><audio>same?"}],
        "images": ["a.png"],
        "audios": ["a.wav"],
        "answer": "yes",
        "system": "Be brief.",
    }
    draft = read("conversations", row)
    assert draft.media == [Shown("image", "a.png"), Shown("audio", "a.wav")]
    assert draft.fields["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_problem_with_tags_or_options_in_its_text_is_asked_as_it_stands():
    tagged = read("conversations", {**VIDEO_R1, "problem": "Compare <video> with this."})
    text = {"type": "text", "text": " with this.\nA. a cat\nB. a dog"}
    assert tagged.fields["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Compare "}, {"type": "video"}, text]}
    ]
    inside = read("conversations", {**VIDEO_R1, "problem": "Which?\nA. a cat\nB. a dog", "options": []})
    assert inside.fields["options"] == ["a cat", "a dog"]
    assert inside.fields["messages"][0]["content"][1]["text"] == "Which?\nA. a cat\nB. a dog"  # and not a second time


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"solution": None}, "no gold answer"),
        ({"problem": None}, "no question"),
        ({"problem_type": "temporal retrieval"}, "'temporal retrieval' is none of"),
        ({"options": []}, "needs its options"),
        ({"path": 5}, "'path' must name a file"),
        ({"path": "features.npy", "data_type": None}, "no video, image or audio by its extension"),
        ({"solution": "<answer>A, B</answer>"}, "gold answer 'A, B'"),
        ({"process": "<think>x</think><answer>A</answer>"}, "which is right"),
    ],
)
def test_a_problem_that_cannot_be_read_is_refused(change, said):
    with pytest.raises(DataError, match=said):
        read("conversations", {**VIDEO_R1, **change})


def test_an_unknown_speaker_is_refused():
    with pytest.raises(DataError, match="from one of human"):
        read("conversations", {**LLAVA, "conversations": [{"from": "parrot", "value": "hello"}]})


# -- which format it is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (OURS, "jsonl"),
        (STAGE, "messages"),
        (VIDEO_R1, "conversations"),
        (ECHOINK, "conversations"),
        (LLAVA, "conversations"),
    ],
)
@pytest.mark.parametrize("array", [True, False])
def test_a_file_is_known_by_its_records(tmp_path, row, name, array):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([row, row]) if array else f"{json.dumps(row)}\nbroken\n{json.dumps(row)}\n")
    assert find_source(str(path), "auto") == (path, name)
    assert find_source(str(tmp_path), "auto") == (path, name)  # the only file in its folder


def test_what_could_be_two_formats_or_none_lists_them_all(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"text": "hello"}))
    with pytest.raises(
        ConfigError, match=r"Pass --format; known: conversations, hf, jsonl, messages.*fields of the first: text"
    ):
        find_source(str(path), "auto")
    path.write_text(json.dumps(OURS) + "\n" + json.dumps(LLAVA))
    with pytest.raises(ConfigError, match="look like none of them"):
        find_source(str(path), "auto")
    path.write_text("nothing")
    with pytest.raises(ConfigError, match="no record can be read"):
        find_source(str(path), "auto")
    (tmp_path / "test.jsonl").write_text("{}")
    with pytest.raises(ConfigError, match=r"2 of them \(test.jsonl, train.jsonl"):
        find_source(str(tmp_path), "auto")
    with pytest.raises(ConfigError, match="no such file"):
        find_source(str(tmp_path / "none"), "auto")
    with pytest.raises(ConfigError, match="Did you mean 'messages'"):
        find_source(str(path), "message")
