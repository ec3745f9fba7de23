import json
from dataclasses import replace
from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.data.prompts import PromptStyle, to_prompt
from avatar.data.schema import Medium, Record, parse_record, placeholders
from avatar.types import Clip

VIDEO, IMAGE, AUDIO = {"type": "video"}, {"type": "image"}, {"type": "audio"}
MEDIA = [Medium("image", "jpg"), Medium("video", "mp4"), Medium("audio", "wav")]


def text(words):
    return {"type": "text", "text": words}


def show(record, system=None, letter_options=True):
    return to_prompt(record, "k", (), PromptStyle(system, letter_options))


def user_text(prompt):
    return prompt.messages[-1]["content"][-1]["text"]


def chat(*turns, media=(), **fields):
    """A record that asks by messages, checked as one from a shard would be."""
    messages = [{"role": role, "content": content} for role, content in turns]
    record = Record(messages=messages, answer="a", media=list(media), **fields)
    return parse_record(record.to_json(), "here")


def test_a_plain_question_is_one_user_turn_with_clips_before_text():
    prompt = show(Record("q ?", "2", "number", media=[Medium("video", "mp4")]))
    assert prompt.messages == [{"role": "user", "content": [VIDEO, text("q ?")]}]


def test_media_of_every_kind_are_shown_in_their_order():
    assert show(Record("q ?", "2", media=MEDIA)).messages == [
        {"role": "user", "content": [IMAGE, VIDEO, AUDIO, text("q ?")]}
    ]


def test_a_question_without_media_has_text_alone():
    assert show(Record("q ?", "2")).messages == [{"role": "user", "content": [text("q ?")]}]


@pytest.mark.parametrize(
    ("system", "hint", "show_hint", "content"),
    [
        ("think first", None, False, "think first"),
        ("think first", "look", False, "think first"),
        ("think first", "look", True, "think first\nHint: look"),
        (None, "look", True, "Hint: look"),
        ("", "look", True, "Hint: look"),
        (None, "look", False, None),
        (None, None, True, None),
        (None, "", True, None),
    ],
)
def test_the_hint_is_the_last_line_of_the_system_message_and_only_if_shown(system, hint, show_hint, content):
    prompt = show(Record("q ?", "2", hint=hint, show_hint=show_hint), system)
    assert [m["content"] for m in prompt.messages if m["role"] == "system"] == ([] if content is None else [content])
    assert prompt.messages[-1]["role"] == "user"
    assert "look" not in user_text(prompt)


def test_options_are_shown_by_letter_or_on_one_line():
    record = Record("what color ?", "red", "choice", options=["red", "light blue"])
    assert user_text(show(record, letter_options=True)) == "what color ?\nA. red\nB. light blue"
    assert user_text(show(record, letter_options=False)) == "what color ? red / light blue"


def test_with_as_many_options_as_letters_every_one_is_shown():
    options = [f"thing{i:02}" for i in range(26)]
    shown = user_text(show(Record("q ?", "A", "choice", options=options)))
    assert shown.splitlines()[1:] == [f"{a}. {o}" for a, o in zip(ascii_uppercase, options, strict=True)]


def test_a_prompt_carries_what_judging_needs():
    record = Record(
        "q ?", "red", "choice", options=["red", "blue"], chain="c", hint="h", audio_caption="a bell",
        metadata={"kind": "color"},
    )  # fmt: skip
    prompt = show(record)
    assert (prompt.key, prompt.answer, prompt.problem_type, prompt.options) == ("k", "red", "choice", ("red", "blue"))
    assert (prompt.chain, prompt.hint, prompt.metadata) == ("c", "h", {"kind": "color"})
    assert prompt.audio_caption == "a bell"


def test_clips_are_those_given():
    clips = (Clip("a"), Clip("b"))
    assert to_prompt(Record("q ?", "2"), "k", clips, PromptStyle()).clips == clips


@pytest.mark.parametrize("asked", [{"question": "q ?"}, {"messages": [{"role": "user", "content": "q ?"}]}])
def test_neither_the_answer_nor_the_chain_nor_the_caption_nor_the_metadata_is_shown(asked):
    record = Record(
        answer="secret-answer", chain="secret-chain", hint="secret-hint", audio_caption="secret-caption",
        metadata={"kind": "secret-kind"}, key="secret-key", **asked,
    )  # fmt: skip
    assert "secret" not in json.dumps(show(record, "sys").messages)
    shown = json.dumps(show(replace(record, show_hint=True), "sys").messages)
    assert shown.count("secret") == shown.count("secret-hint") == 1


# -- messages ----------------------------------------------------------------------------------------------------------


def test_messages_that_say_where_media_are_shown_are_asked_as_they_stand():
    turns = [("system", "s"), ("user", [text("a"), VIDEO]), ("assistant", "b"), ("user", [AUDIO, text("c")])]
    record = chat(*turns, media=[MEDIA[1], MEDIA[2]])
    assert show(record).messages == record.messages == [{"role": r, "content": c} for r, c in turns]


@pytest.mark.parametrize("content", ["q ?", [text("q ?")]])
def test_messages_that_do_not_show_all_media_before_the_text_of_the_first_user_turn(content):
    record = chat(("system", "s"), ("user", content), ("assistant", "b"), ("user", "c"), media=MEDIA)
    assert show(record).messages == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [IMAGE, VIDEO, AUDIO, text("q ?")]},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]


def test_messages_without_media_are_asked_as_they_stand():
    assert show(chat(("user", "q ?"))).messages == [{"role": "user", "content": "q ?"}]


def test_a_system_message_of_its_own_comes_before_that_of_the_style():
    own = [m["content"] for m in show(chat(("system", "own"), ("user", "q ?")), "style").messages]
    assert own == ["own", "q ?"]
    assert [m["content"] for m in show(chat(("user", "q ?")), "style").messages] == ["style", "q ?"]


@pytest.mark.parametrize(
    ("content", "hinted"),
    [("own", "own\nHint: look"), ([text("own")], [text("own"), text("\nHint: look")]), ("", "Hint: look")],
)
def test_the_hint_joins_a_system_message_of_its_own(content, hinted):
    record = chat(("system", content), ("user", "q ?"), hint="look", show_hint=True)
    assert show(record, "style").messages[0] == {"role": "system", "content": hinted}


def test_options_of_messages_stand_in_their_text_and_are_not_shown_again():
    record = Record(
        messages=[{"role": "user", "content": "q ? (A) x (B) y"}], answer="B", problem_type="choice", options=["x", "y"]
    )
    prompt = show(record)
    assert prompt.messages == record.messages
    assert prompt.options == ("x", "y")


@pytest.mark.parametrize("show_hint", [False, True])
@pytest.mark.parametrize("media", [[], MEDIA])
def test_asking_changes_no_record(media, show_hint):
    record = chat(("system", [text("s")]), ("user", [text("q ?")]), media=media, hint="look", show_hint=show_hint)
    before = record.to_json()
    assert show(record, "style").messages == show(record, "style").messages
    assert record.to_json() == before


@given(
    st.lists(st.sampled_from(MEDIA), max_size=4),
    st.booleans(),
    st.booleans(),
    st.none() | st.text(max_size=3),
    st.booleans(),
)
def test_every_prompt_shows_exactly_its_media_in_order_and_ends_with_the_user(media, by_chat, letters, system, hint):
    asked = {"messages": [{"role": "user", "content": "q ?"}]} if by_chat else {"question": "q ?"}
    record = Record(answer="a", media=media, hint="h", show_hint=hint, **asked)
    prompt = show(record, system, letters)
    assert placeholders(prompt.messages) == [medium.kind for medium in media]
    assert prompt.messages[-1]["role"] == "user"
    assert [m["role"] for m in prompt.messages[:-1]] == (["system"] if system or hint else [])
