"""Questions with a path beside them, and conversations: the JSON of Video-R1, EchoInk, LLaVA and their kin."""

from __future__ import annotations

from string import ascii_uppercase
from typing import Any

from avatar.data.pack.formats import FORMATS, Draft, Shown
from avatar.data.pack.messages import has_tags, place_media, read_chat
from avatar.data.pack.shapes import (
    Fields,
    answer_in,
    check_chain,
    files_of,
    kind_of,
    option_texts,
    options_in,
    problem_type,
    take_media,
)
from avatar.data.pack.text import TextFormat
from avatar.data.schema import MEDIA_KINDS
from avatar.errors import DataError
from avatar.types import Message

_SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system",
}  # fmt: skip
_ASKED = ("problem", "question")
_CHATS = ("conversations", "conversation")


@FORMATS.register("conversations")
class ConversationsFormat(TextFormat):
    r"""Questions with the path of a clip, or conversations: the JSON of Video-R1, EchoInk, LLaVA.

    Two shapes are read, as an array or one a line:

    - ``problem`` (or ``question``), ``problem_type``, ``options`` (``"A. text"``, ``{"label", "text"}``, or none),
      ``solution`` (or ``answer``), with or without ``<answer>`` tags, and ``process``, the thoughts before it. The clip
      stands in ``path``, of the kind that ``data_type`` says, or ``{"image": path, "audio": path}`` as EchoInk has it;
      or in ``video(s)``, ``image(s)``, ``audio(s)``.
    - ``conversations``: ``{"from": "human" | "gpt" | "system", "value": text}`` with ``<video>``, ``<image>`` and
      ``<audio>`` in the text, and the files in ``video(s)``, ``image(s)``, ``audio(s)``; what ``gpt`` says last is the
      gold completion.

    Keys are looked for in ``key``, ``id``, ``prompt_id``, ``problem_id`` and ``question_id``. All else becomes
    metadata.
    """

    @classmethod
    def fits(cls, row: dict[str, Any]) -> bool:
        """A conversation, a problem, or a question with a file beside it."""
        if "messages" in row or "media" in row:
            return False
        files = {"path", *MEDIA_KINDS, *(f"{kind}s" for kind in MEDIA_KINDS)} & set(row)
        return bool({*_CHATS, "problem"} & set(row)) or ("question" in row and bool(files or "solution" in row))

    def read(self, row: dict[str, Any]) -> Draft:
        """A question, or a chat."""
        fields = Fields(row)
        chat = fields.take(*_CHATS)
        return _question(fields) if chat is None else read_chat(fields, _messages(chat))


def _messages(chat: Any) -> Any:
    """The chat with our names for who speaks; :func:`read_chat` complains of what is no chat."""
    if not isinstance(chat, list):
        return chat
    known = [turn for turn in chat if isinstance(turn, dict) and turn.get("from") in _SPEAKERS and "value" in turn]
    if len(known) != len(chat):
        raise DataError(f"a turn of a conversation must have a value and be from one of {', '.join(_SPEAKERS)}")
    return [{"role": _SPEAKERS[turn["from"]], "content": turn["value"]} for turn in known]


def _question(fields: Fields) -> Draft:
    key = fields.key()
    question = fields.text(*_ASKED)
    if not question:
        raise DataError(f"no question: none of the fields {', '.join((*_CHATS, *_ASKED))} is there")
    data_type = fields.take("data_type")
    media = [*_paths(fields.take("path"), data_type), *take_media(fields)]
    given = option_texts(fields.take("options"))
    kind = problem_type(fields.take("problem_type"), given)
    options = given or (options_in(question) if kind == "choice" else [])
    answer = answer_in(fields.take("solution"), "solution") or answer_in(fields.take("answer"), "answer")
    if answer is None:
        raise DataError("no gold answer: neither a field 'solution' nor 'answer'")
    chain = fields.text("chain") or _chain(fields.text("process"), answer)
    check_chain(chain, answer, kind, options)
    asked: dict[str, Any] = {"question": question}
    if options != given or has_tags(question):  # the text says itself what is shown where, or what to choose from
        messages, media = _as_chat(question, given, media)
        asked = {"messages": messages}
    told = {**asked, "answer": answer, "problem_type": kind, "options": options, "chain": chain}
    return Draft(key, {**{k: v for k, v in told.items() if v}, **fields.common()}, media)


def _as_chat(question: str, options: list[str], media: list[Shown]) -> tuple[list[Message], list[Shown]]:
    """The question as a message with its options in the text, and its media in the order of its tags."""
    lettered = zip(ascii_uppercase, options, strict=False)
    text = question + "".join(f"\n{letter}. {option}" for letter, option in lettered)
    files = {kind: [shown.file for shown in media if shown.kind == kind] for kind in MEDIA_KINDS}
    return place_media([{"role": "user", "content": text}], files)


def _paths(path: Any, data_type: Any) -> list[Shown]:
    """What ``path`` shows, which ``data_type`` says the kind of where the path does not."""
    if isinstance(path, dict) and set(path) <= set(MEDIA_KINDS):
        return [Shown(kind, file) for kind in MEDIA_KINDS for file in files_of(path.get(kind), f"path.{kind}")]
    files = list(files_of(path, "path"))
    if data_type in MEDIA_KINDS:
        return [Shown(data_type, file) for file in files]
    return [Shown(kind_of(file if isinstance(file, str) else file.name or ""), file) for file in files]


def _chain(process: str | None, answer: str) -> str | None:
    """Thoughts and answer as a completion; tags are put where the thoughts have none."""
    if not process or not process.strip():
        return None
    thoughts = process.strip()
    if "<think>" not in thoughts:
        thoughts = f"<think>{thoughts}</think>"
    return thoughts if "<answer>" in thoughts else f"{thoughts}\n<answer>{answer}</answer>"
