"""What a teacher is asked, and what is taken from it: one sentence of strategy that does not tell the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any

from avatar.answers import gold_answer
from avatar.chat import ChatRequest, image_part, text_part
from avatar.data.leaks import leaks
from avatar.data.words import numbers, words
from avatar.types import Clip, Message, Prompt

VERSION = 1  # of the wording below; stands beside every hint
MOST_WORDS, MOST_CHARS = 30, 300
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"hint": {"type": "string"}},
    "required": ["hint"],
    "additionalProperties": False,
}
SYSTEM = f"""\
You help a student who answers questions about videos, pictures and sounds and is stuck. For each question write one \
hint: a single sentence of at most {MOST_WORDS - 5} words on how to find the answer - where to look, what to listen \
for, what to compare, in which order.
The hint must not give the answer away. Name no number, none of the options, and no person, thing, colour, place or \
text that may be the answer, not even as an example or to rule it out.
Good hints: "Locate the sounding object first, then count its movements." "Listen for where the melody changes, then \
look at who is playing at that moment."
Answer with JSON: {{"hint": "..."}}"""
# One complaint for every answer that is named, so that none comes back marked as right.
LEAKED = (
    "That hint cannot be used. Write another one that says only how to look, listen and compare: no number in digits "
    "or words, none of the options by text, letter or place, and no person, thing, colour, place or text that may be "
    "the answer."
)
_END = re.compile(r"[.!?\u2026]+[\"')\]]*\s+(?=\S)|[\u3002\uff01\uff1f](?=\S)")
_ABBREVIATION = re.compile(r"\b(?:e\.\s?g|i\.\s?e|vs|etc|cf|approx)\.", re.IGNORECASE)
_MARKUP = re.compile(r"<\||\|>|</?\w[^<>]*>")


@dataclass(frozen=True)
class Question:
    """A record on its way to the teacher.

    Attributes:
        key: Of the record.
        text: What is asked, for people.
        answer: The gold answer, which the hint must not tell.
        problem_type: See :mod:`avatar.answers`.
        options: Option texts without letters.
        messages: For the teacher.
        asked: How often it was asked.
    """

    key: str
    text: str
    answer: str
    problem_type: str
    options: tuple[str, ...]
    messages: list[Message]
    asked: int = 0

    @property
    def request(self) -> ChatRequest:
        """To be sent."""
        return ChatRequest(self.messages, SCHEMA)

    def again(self, reply: str, complaint: str) -> Question:
        """The same, after a reply that cannot be used."""
        turns = [{"role": "assistant", "content": reply}, {"role": "user", "content": complaint}]
        return replace(self, messages=[*self.messages, *turns], asked=self.asked + 1)


def pose(prompt: Prompt, show_answer: bool = False) -> Question:
    """The question that a teacher gets: frames, what is heard if it is told in words, the question and its options.

    Args:
        prompt: The record; its frames are those that are sent. Its system message and its own hint are not.
        show_answer: Tell the teacher the gold answer.
    """
    asked = _asked(prompt)
    lines = [f"What is heard: {prompt.audio_caption}"] if prompt.audio_caption else []
    lines.append(f"Question: {asked}")
    if show_answer:
        lines.append(f"The answer, for you alone; the hint must not tell it: {_gold(prompt)}")
    content = [part for number, clip in enumerate(prompt.clips, 1) for part in _shown(clip, number)]
    messages: list[Message] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": [*content, text_part("\n".join(lines))]},
    ]
    return Question(prompt.key, asked, prompt.answer, prompt.problem_type, prompt.options, messages)


def _asked(prompt: Prompt) -> str:
    """The user's turn, or all turns of a longer chat."""
    turns = [(m["role"], _text(m)) for m in prompt.messages if m["role"] != "system"]
    return turns[0][1] if len(turns) == 1 else "\n".join(f"{role}: {text}" for role, text in turns)


def _text(message: Message) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _gold(prompt: Prompt) -> str:
    if prompt.problem_type != "choice":
        return prompt.answer
    number = int(gold_answer(prompt.answer, "choice", prompt.options))
    return f"{ascii_uppercase[number]}. {prompt.options[number]}"


def _shown(clip: Clip, number: int) -> list[dict[str, Any]]:
    """The frames of a clip behind a line that says when each is; a sound can only be said to be there."""
    if clip.frames is None:
        seconds = 0.0 if clip.audio is None else len(clip.audio) / clip.sample_rate
        return [text_part(f"Clip {number}: a sound of {seconds:.1f} s, which the student hears and you do not.")]
    if clip.image:
        return [text_part(f"Clip {number}: a picture."), image_part(clip.frames[0])]
    times = clip.times.tolist() if clip.times is not None else [i / (clip.fps or 1.0) for i in range(len(clip.frames))]
    told = f"Clip {number}: frames of a video at {', '.join(f'{time:.1f}' for time in times)} s"
    told += "." if clip.audio is None else ", with a sound track that the student hears and you do not."
    return [text_part(told), *map(image_part, clip.frames)]


def tidy(hint: str) -> str:
    """One line of what can be seen, without quotes around it."""
    hint = "".join(c for c in " ".join(hint.split()) if c.isprintable())
    return hint[1:-1].strip() if len(hint) > 1 and hint[0] == hint[-1] == '"' else hint


def find_fault(hint: str, question: Question) -> tuple[str, str, str] | None:
    """Why a hint cannot be used: (cause, reason for people, complaint for the teacher); None for a good one.

    A number or an option that is named is refused whether it is right or wrong: a wrong one misleads, and a complaint
    about right ones alone would tell the teacher.
    """
    if not hint:
        return "empty", "the hint is empty", "The hint is empty. Write one sentence."
    if found := _MARKUP.search(hint):
        return "markup", f"the hint holds {found[0]!r}: {hint}", "The hint must hold no tags and no special tokens."
    if told := leaks(hint, question.answer, question.problem_type, question.options):
        return "tells the answer", f"{told}: {hint}", LEAKED
    if guessed := _guess(hint, question):
        return "guesses an answer", f"{guessed}: {hint}", LEAKED
    if len(hint.split()) > MOST_WORDS or len(hint) > MOST_CHARS:
        return "too long", f"{len(hint.split())} words: {hint}", f"Say it in at most {MOST_WORDS - 5} words."
    if _END.search(_ABBREVIATION.sub("", hint)):
        return "several sentences", hint, "Say it in one single sentence."
    return None


def _guess(hint: str, question: Question) -> str | None:
    """What answer a hint names, where those that there may be are known."""
    if question.problem_type == "number" and (found := numbers(words(hint))):
        return f"it says {found[0]!r}"
    letters = ascii_uppercase[: len(question.options)] if question.problem_type == "choice" else ""
    return next((told for letter in letters if (told := leaks(hint, letter, "choice", question.options))), None)
