import json
import string
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.data.schema import (
    MEDIA_KINDS,
    PROBLEM_TYPES,
    ROLES,
    Medium,
    Record,
    parse_record,
    placeholders,
    record_from_fields,
)
from avatar.errors import DataError

GOOD = {"question": "how many ?", "answer": "2", "problem_type": "number"}
WHERE = "data/00000.tar: clip/q0"


def raw(**fields):
    return json.dumps({k: v for k, v in (GOOD | fields).items() if v is not ...}).encode()


def chat(*messages, **fields):
    """A record that asks by messages; ``(role, content)`` each."""
    return raw(question=..., messages=[{"role": r, "content": c} for r, c in messages], **fields)


def refused(text):
    """The message that ``text`` is refused with, less its place; the place must be there, and the cause too."""
    with pytest.raises(DataError) as error:
        parse_record(text, WHERE)
    assert error.value.cause == "broken record"
    assert str(error.value).startswith(f"{WHERE}: ")
    return str(error.value).removeprefix(f"{WHERE}: ")


# -- there and back ----------------------------------------------------------------------------------------------------

seconds = st.none() | st.integers(0, 10**8) | st.floats(0, 1e8)
names = st.text(min_size=1)


@st.composite
def media(draw):
    kind = draw(st.sampled_from(MEDIA_KINDS))
    if kind == "image":
        return Medium(kind, draw(names))
    start, end = draw(seconds), draw(seconds)
    if end is not None and end <= (start or 0):
        end = None
    return Medium(kind, draw(names), start, end)


@st.composite
def chats(draw, shown):
    """Messages that end with the user's turn and show ``shown`` in order, or say nothing of it."""
    turns = [*draw(st.lists(st.sampled_from(ROLES), max_size=3)), "user"]
    parts = [{"type": "text", "text": draw(st.text())} for _ in range(draw(st.integers(0, 3)))]
    if draw(st.booleans()):
        places = sorted(draw(st.lists(st.integers(0, len(parts)), min_size=len(shown), max_size=len(shown))))
        for place, kind in reversed(list(zip(places, shown, strict=True))):
            parts.insert(place, {"type": kind})
    messages = [{"role": role, "content": draw(st.text())} for role in turns]
    messages[draw(st.integers(0, len(turns) - 1))]["content"] = parts
    return messages


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def records(draw):
    fields = {
        "media": draw(st.lists(media(), max_size=3)),
        "use_audio_in_video": draw(st.booleans()),
        "chain": draw(st.none() | st.text()),
        "hint": draw(st.none() | st.text()),
        "show_hint": draw(st.booleans()),
        "audio_caption": draw(st.none() | st.text()),
        "metadata": draw(st.dictionaries(st.text(), json_values, max_size=3)),
        "key": draw(st.none() | st.text()),
        "problem_type": draw(st.sampled_from(PROBLEM_TYPES)),
    }
    if draw(st.booleans()):
        fields["question"] = draw(st.text(min_size=1))
    else:
        fields["messages"] = draw(chats([medium.kind for medium in fields["media"]]))
    fields["answer"] = {"number": "2", "location": "left: b", "choice": "x" * 9}.get(fields["problem_type"], "b")
    if fields["problem_type"] == "choice":  # of texts too short to be the gold one again
        fields["options"] = ["é", "x" * 9, *draw(st.lists(st.text(max_size=8), max_size=3))]
    return Record(**fields)


@given(records())
def test_a_record_survives_the_way_to_json_and_back(record):
    assert parse_record(record.to_json(), WHERE) == record


@given(records())
def test_json_is_the_same_after_another_way_there_and_back(record):
    once = parse_record(record.to_json(), WHERE).to_json()
    assert parse_record(once, WHERE).to_json() == once


@given(records())
def test_a_record_is_one_line_that_ends_nowhere_within(record):
    line = record.to_json().decode()
    assert "\n" not in line
    assert "\r" not in line


def test_the_letters_of_a_record_stand_unescaped():
    line = Record(question="wie\nviele Töne ? 几 🎵", answer="2").to_json()
    assert "Töne ? 几 🎵".encode() in line


def test_json_holds_what_was_given_and_nothing_else():
    record = Record("q ?", "2", "number", [Medium("video", "mp4", 2.5, 8), Medium("image", "jpg")])
    assert json.loads(record.to_json()) == {
        "question": "q ?",
        "answer": "2",
        "problem_type": "number",
        "media": [{"video": "mp4", "start": 2.5, "end": 8}, {"image": "jpg"}],
    }


def test_a_crop_from_the_very_beginning_stays_a_crop():
    assert parse_record(raw(media=[{"video": "mp4", "start": 0, "end": 8}]), WHERE).media == [
        Medium("video", "mp4", 0.0, 8.0)
    ]


def test_a_record_that_is_read_already_is_checked_alike():
    assert record_from_fields(dict(GOOD), WHERE) == parse_record(raw(), WHERE)
    with pytest.raises(DataError, match="must be a JSON object, got list"):
        record_from_fields([], WHERE)


# -- fields ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"{'question': 1}", "not JSON"),
        (b"", "not JSON"),
        (b'{"question": "q"', "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        (b"[1, 2]", "must be a JSON object, got list"),
        (b'"text"', "must be a JSON object, got str"),
        (b"null", "must be a JSON object, got NoneType"),
        (b'{"answer": "2"}', "field 'question' is missing; give it, or 'messages'"),
        (b'{"answer": "2", "question": ""}', "field 'question' is missing; give it, or 'messages'"),
        (b'{"answer": "2", "messages": []}', "field 'question' is missing; give it, or 'messages'"),
        (b'{"question": "q"}', "field 'answer' is missing"),
        (raw(qestion="q"), "unknown field 'qestion'; known: key, question, messages, answer"),
        (raw(problem_type="mcq"), "problem_type 'mcq' is none of number, choice, exact, ocr, free, location"),
        (raw(messages=[{"role": "user", "content": "q"}]), "'question' and 'messages' are both given"),
    ],
)
def test_a_wrong_record_is_refused_by_place_and_reason(text, wanted):
    assert wanted in refused(text)


WRONG_TYPES = [
    ("key", 7),
    ("question", 3),
    ("question", ["q"]),
    ("messages", "q ?"),
    ("messages", {"role": "user"}),
    ("answer", 2),
    ("answer", None),
    ("answer", ["2"]),
    ("problem_type", None),
    ("media", {"video": "mp4"}),
    ("media", "mp4"),
    ("options", "a / b"),
    ("options", {"A": "a"}),
    ("use_audio_in_video", 1),
    ("use_audio_in_video", "true"),
    ("use_audio_in_video", None),
    ("chain", ["think"]),
    ("hint", False),
    ("show_hint", 0),
    ("audio_caption", 1),
    ("metadata", None),
    ("metadata", []),
]


@pytest.mark.parametrize(("name", "value"), WRONG_TYPES)
def test_a_field_of_the_wrong_type_is_named(name, value):
    text = raw(**{name: value} | ({"question": ...} if name == "messages" else {}))
    assert refused(text).startswith(f"field {name!r} has the wrong type {type(value).__name__}")


def test_every_field_has_a_wrong_type():
    known = refused(raw(qestion="q")).partition("known: ")[2].partition(".")[0].split(", ")
    assert {name for name, _ in WRONG_TYPES} == set(known)


@pytest.mark.parametrize("name", ["question", "messages"])
def test_a_null_in_place_of_the_question_is_a_missing_question(name):
    assert refused(raw(**{"question": ...} | {name: None})).startswith("field 'question' is missing")


def test_media_as_an_object_are_told_how_to_write_them():
    assert """; write [{"video": "mp4"}]""" in refused(raw(media={"video": "mp4"}))


@pytest.mark.parametrize("options", [[1, 2], ["red", None], ["red", ["blue"]], [{"A": "red"}]])
def test_what_lies_inside_options_must_be_text(options):
    text = raw(problem_type="choice", answer="A", options=options)
    assert refused(text).startswith("field 'options' must hold text, got ")


def test_there_may_be_as_many_options_as_letters_and_no_more():
    options = [f"thing{i:02}" for i in range(27)]
    assert "27 options, but there are letters for 26" in refused(
        raw(problem_type="choice", answer="thing26", options=options)
    )
    record = parse_record(raw(problem_type="choice", answer="thing25", options=options[:26]), WHERE)
    assert len(record.options) == len(string.ascii_uppercase)


def test_a_record_nested_a_hundred_thousand_deep_is_refused_like_any_other():
    assert "not JSON" in refused(b"[" * 100_000)


def test_a_number_of_ten_thousand_digits_is_refused_like_any_other():
    assert "not JSON" in refused(raw(metadata={"x": 12345}).replace(b"12345", b"9" * 10_000))


@pytest.mark.parametrize("name", ["question", "answer", "chain", "hint", "audio_caption", "options", "metadata"])
def test_half_a_letter_is_refused_since_no_tokenizer_takes_it(name):
    # JavaScript cuts a text within an emoji into two halves, "\\ud83c\\udfb5", of which UTF-8 has neither.
    half = "note \ud83c"
    fields = {"options": {"problem_type": "choice", "answer": "A", "options": [half, "x"]}, "metadata": {}}
    fields = fields.get(name, {name: half, "problem_type": "exact"}) | (
        {"metadata": {"a": [half]}} if name == "metadata" else {}
    )
    text = raw(**fields)
    assert b"\\ud83c" in text
    assert refused(text).startswith(f"field {name!r} cannot be written as JSON in UTF-8")


def test_half_a_letter_in_a_chat_is_refused_too():
    assert refused(chat(("user", "note \ud83c"))).startswith("field 'messages' cannot be written as JSON in UTF-8")


def test_fields_that_are_no_json_are_refused_by_name():
    with pytest.raises(DataError, match=r"clip/q0: field 'metadata' cannot be written as JSON .*bytes"):
        record_from_fields(GOOD | {"metadata": {"raw": b"bytes"}}, WHERE)


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"problem_type": "number", "answer": "many"},
        {"problem_type": "number", "answer": "2 or 3"},
        {"problem_type": "number", "answer": "nan"},
        {"problem_type": "number", "answer": "9" * 400},
        {"problem_type": "exact", "answer": " "},
        {"problem_type": "ocr", "answer": " "},
        {"problem_type": "free", "answer": ""},
        {"problem_type": "free", "answer": "<answer>a</answer><answer>b</answer>"},
        {"problem_type": "free", "answer": "?!"},
        {"problem_type": "location", "answer": "cyclist"},
        {"problem_type": "location", "answer": "left: a | left: b"},
        {"problem_type": "choice", "answer": "A"},  # no options at all
        {"problem_type": "choice", "answer": "C", "options": ["red", "blue"]},
        {"problem_type": "choice", "answer": "green", "options": ["red", "blue"]},
        {"problem_type": "choice", "answer": "red", "options": ["red", "red"]},  # which of them?
    ],
)
def test_a_gold_answer_that_cannot_be_read_is_refused(fields):
    assert fields["problem_type"] in refused(raw(**fields))


@pytest.mark.parametrize("answer", ["B", "b", "blue", "B. blue", "(B)"])
def test_a_choice_may_be_named_by_letter_or_by_text(answer):
    record = parse_record(raw(problem_type="choice", answer=answer, options=["red", "blue"]), WHERE)
    assert record.answer == answer


@pytest.mark.parametrize("problem_type", ["ocr", "free"])
@pytest.mark.parametrize("answer", ["STOP", "A dog barks, then a car passes.", "第12回", "B. not a letter", "3,5 %"])
def test_a_text_to_be_read_or_told_may_be_any_text(problem_type, answer):
    assert parse_record(raw(problem_type=problem_type, answer=answer), WHERE).answer == answer


@given(st.text(min_size=1, max_size=2000), st.sampled_from(PROBLEM_TYPES))
def test_no_gold_answer_makes_anything_but_a_record_or_a_refusal(answer, problem_type):
    try:
        record = parse_record(raw(problem_type=problem_type, answer=answer, options=["red", "blue"]), WHERE)
    except DataError as error:
        assert str(error).startswith(WHERE)  # noqa: PT017
    else:
        assert record.answer == answer


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
@pytest.mark.parametrize("unit", ["<answer>", "1,", "not ", " ", "(A", "-", "a "])
def test_a_gold_answer_of_a_megabyte_is_read_or_refused_in_no_time(problem_type, unit):
    start, text = (
        time.perf_counter(),
        raw(problem_type=problem_type, answer=unit * (10**6 // len(unit)), options=["a", "b"]),
    )
    with suppress(DataError):
        parse_record(text, WHERE)
    assert time.perf_counter() - start < 5  # it takes a third of a second at most; a square of a megabyte takes hours


# -- media -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        ("mp4", "must be an object with one of video, image, audio, got 'mp4'"),
        (None, "must be an object with one of video, image, audio, got None"),
        ({}, "must be an object with one of video, image, audio, got {}"),
        ({"film": "mp4"}, "must be an object with one of video, image, audio, got {'film': 'mp4'}"),
        ({"video": "mp4", "audio": "wav"}, "must be an object with one of video, image, audio"),
        ({"video": ["mp4"]}, "'video' must name a file, got ['mp4']"),
        ({"audio": None}, "'audio' must name a file, got None"),
        ({"image": ""}, "'image' must name a file, got ''"),
        ({"video": "mp4", "fps": 2}, "unknown field 'fps'; known: video, start, end"),
        ({"image": "jpg", "start": 1}, "an image has no start or end"),
        ({"image": "jpg", "end": 1}, "an image has no start or end"),
        ({"video": "mp4", "start": "1"}, "start must be seconds from the file's beginning, 0 or more, got '1'"),
        ({"video": "mp4", "start": True}, "start must be seconds from the file's beginning, 0 or more, got True"),
        ({"video": "mp4", "end": [2]}, "end must be seconds from the file's beginning, 0 or more, got [2]"),
        ({"video": "mp4", "start": -0.5}, "start must be seconds from the file's beginning, 0 or more, got -0.5"),
        ({"audio": "wav", "end": float("nan")}, "end must be seconds from the file's beginning, 0 or more, got nan"),
        ({"audio": "wav", "end": float("inf")}, "end must be seconds from the file's beginning, 0 or more, got inf"),
        ({"audio": "wav", "start": 10**400}, "start must be seconds from the file's beginning, 0 or more, got 1000"),
        ({"video": "mp4", "start": 8, "end": 8}, "end must come after start, got start 8 and end 8"),
        ({"video": "mp4", "start": 8, "end": 2.5}, "end must come after start, got start 8 and end 2.5"),
        ({"video": "mp4", "end": 0}, "end must come after start, got start 0 and end 0"),
    ],
)
def test_a_wrong_medium_is_refused_by_its_number(item, wanted):
    assert refused(raw(media=[{"video": "mp4"}, item])).startswith(f"media[1]: {wanted}")


def test_any_mixture_of_media_is_kept_in_order():
    items = [{"audio": "wav", "end": 3}, {"video": "v0.mp4"}, {"image": "jpg"}, {"video": "v1.mp4", "start": 1}]
    assert parse_record(raw(media=items), WHERE).media == [
        Medium("audio", "wav", None, 3.0),
        Medium("video", "v0.mp4"),
        Medium("image", "jpg"),
        Medium("video", "v1.mp4", 1.0),
    ]


# -- messages ----------------------------------------------------------------------------------------------------------

TEXT, VIDEO, IMAGE, AUDIO = {"type": "text", "text": "t"}, {"type": "video"}, {"type": "image"}, {"type": "audio"}


def test_a_chat_may_have_a_system_message_turns_and_parts():
    record = parse_record(
        chat(
            ("system", "be brief"),
            ("user", [VIDEO, TEXT]),
            ("assistant", "yes"),
            ("user", "why ?"),
            media=[{"video": "mp4"}],
        ),
        WHERE,
    )
    assert [m["role"] for m in record.messages] == ["system", "user", "assistant", "user"]
    assert placeholders(record.messages) == ["video"]
    assert record.question == ""


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("q ?", "must have a role (system, user, assistant) and a content, got 'q ?'"),
        ({"role": "user"}, "must have a role (system, user, assistant) and a content"),
        ({"content": "q"}, "must have a role (system, user, assistant) and a content"),
        ({"role": "tool", "content": "q"}, "must have a role (system, user, assistant) and a content"),
        ({"role": ["user"], "content": "q"}, "must have a role (system, user, assistant) and a content"),
        ({"role": "user", "content": "q", "name": "x"}, "must have a role (system, user, assistant) and a content"),
        ({"role": "user", "content": None}, "content must be text or a list of parts, got NoneType"),
        ({"role": "user", "content": {"type": "text"}}, "content must be text or a list of parts, got dict"),
        ({"role": "user", "content": ["q"]}, "a part is"),
        ({"role": "user", "content": [{"text": "q"}]}, "a part is"),
        ({"role": "user", "content": [{"type": "text"}]}, "a part is"),
        ({"role": "user", "content": [{"type": "text", "text": 3}]}, "a part is"),
        ({"role": "user", "content": [{"type": "video_url"}]}, "a part is"),
        ({"role": "user", "content": [{"type": ["video"]}]}, "a part is"),
        # Qwen's chat template shows an image for any part that has a field of this name, whatever its type.
        ({"role": "user", "content": [{"type": "text", "text": "q", "image": "x.jpg"}]}, "a part is"),
        ({"role": "user", "content": [{"type": "video", "video": "x.mp4"}]}, "a part is"),
    ],
)
def test_a_wrong_message_is_refused_by_its_number(message, wanted):
    text = raw(question=..., messages=[{"role": "system", "content": "s"}, message, {"role": "user", "content": "q"}])
    assert refused(text).startswith(f"messages[1]: {wanted}")


@pytest.mark.parametrize("last", ["assistant", "system"])
def test_a_chat_that_ends_with_another_than_the_user_is_refused(last):
    assert "must end with the user's turn; a gold completion belongs in 'chain'" in refused(
        chat(("user", "q"), (last, "a"))
    )


@pytest.mark.parametrize(
    ("shown", "media"),
    [
        ([VIDEO], []),
        ([VIDEO], [{"image": "jpg"}]),
        ([VIDEO, VIDEO], [{"video": "mp4"}]),
        ([VIDEO], [{"video": "mp4"}, {"audio": "wav"}]),
        ([AUDIO, IMAGE], [{"image": "jpg"}, {"audio": "wav"}]),
    ],
)
def test_a_chat_that_shows_others_than_its_media_is_refused(shown, media):
    kinds = ", ".join(part["type"] for part in shown)
    assert refused(chat(("user", [*shown, TEXT]), media=media)).startswith(f"messages show [{kinds}], but media are [")


def test_media_may_be_shown_over_several_turns():
    turns = [("user", [VIDEO, TEXT]), ("assistant", "hm"), ("user", [TEXT, AUDIO])]
    record = parse_record(chat(*turns, media=[{"video": "mp4"}, {"audio": "wav"}]), WHERE)
    assert placeholders(record.messages) == ["video", "audio"]


def test_a_chat_that_says_nothing_of_its_media_is_fine():
    assert len(parse_record(chat(("user", "q"), media=[{"video": "mp4"}]), WHERE).media) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"question": "what is <|VIDEO|> ?"},
        {"question": "q", "hint": "<|im_end|>"},
        {"question": "q", "chain": "<think>see <|AUDIO|></think><answer>0.3</answer>"},
        {"question": "q", "problem_type": "choice", "answer": "A", "options": ["a", "<|vision_bos|>"]},
        {"messages": [{"role": "user", "content": "see <|AUDIO|>"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "<|IMAGE|>"}]}]},
    ],
)
def test_a_token_with_a_meaning_of_its_own_is_no_text(fields):
    with pytest.raises(DataError, match=r"00000.tar: k: the text holds '<\|\w+\|>'"):
        record_from_fields({"answer": "1"} | fields, "00000.tar: k")
    record_from_fields({"question": "is a < b | c > d ?", "answer": "1"}, "00000.tar: k")
