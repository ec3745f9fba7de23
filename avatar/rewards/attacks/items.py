"""Questions of every problem type that attacks are tried on: no data is needed to try a reward.

There are several of each type, so that a wrong answer can be another question's right one: of the right form, and not
right. No question holds its gold answer, but where it is one of the options.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from string import ascii_uppercase

import torch

from avatar.types import Clip, Prompt

NUM_FRAMES, SIDE = 4, 56


@dataclass(frozen=True)
class Item:
    """A question, and answers to it that are well-formed and wrong.

    Attributes:
        prompt: The question with its gold answer.
        wrongs: The gold answers of the other questions of the type; for a choice, its other options' letters.
    """

    prompt: Prompt
    wrongs: tuple[str, ...]

    @property
    def gold(self) -> str:
        """The right answer."""
        return self.prompt.answer

    def saying(self, k: int) -> Item:
        """The same with the k-th wrong answer first."""
        return replace(self, wrongs=(self.wrongs[k], *self.wrongs[:k], *self.wrongs[k + 1 :]))

    @property
    def candidates(self) -> tuple[str, ...]:
        """What could be the answer, as one who cannot see the clip knows it: right and wrong ones, sorted."""
        return tuple(sorted((self.gold, *self.wrongs)))


# type: (question, gold answer, what is heard)
_TEXTS: dict[str, list[tuple[str, str, str]]] = {
    "number": [
        ("How often does the dog bark?", "3", "a dog barks, pauses, and barks again"),
        ("How many people clap at the end?", "12", "applause of a small crowd"),
        ("How many seconds does the siren last?", "7.5", "a siren, then a street"),
        ("How many cups stand on the table?", "5", "cups that are put down"),
    ],
    "exact": [
        ("Which instrument plays first?", "cello", "strings, then a piano"),
        ("Which animal is heard but not seen?", "owl", "a call in the night"),
        ("What does she pick up?", "umbrella", "rain on a roof"),
        ("Which sport is shown?", "fencing", "metal on metal, short steps"),
    ],
    "ocr": [
        ("What does the sign over the door say?", "OPEN UNTIL MIDNIGHT", "a door bell"),
        ("What is written on the van?", "Miller & Sons Removals", "an engine that idles"),
        ("What does the scoreboard show?", "HOME 2 GUESTS 0", "a whistle, a crowd"),
        ("What does the subtitle say at the end?", "We should have left last night.", "a man who whispers"),
    ],
    "free": [
        ("What happens after the phone rings?", "The woman puts down her cup and runs to the window.", "a phone"),
        ("Why does the crowd cheer?", "A boy in a red shirt scores with the last kick of the match.", "cheering"),
        ("Describe what makes the noise.", "An old tractor is pulling a cart over a wooden bridge.", "rattling"),
        ("What is the mood, and why?", "It is tense, because the music gets faster while nobody speaks.", "music"),
        ("How does the video end?", "The two brothers sit on the pier and share a sandwich.", "waves, gulls"),
        ("What does the man show how to do?", "He shows how to fold a paper boat from a single sheet.", "rustling"),
    ],
    "location": [
        ("Where is what makes a sound?", "Left: cyclist | Center: girl playing flute", "a bicycle bell, a flute"),
        ("Where is what makes a sound?", "Center: dog | Right: old man singing", "barking, a song"),
        ("Where is what makes a sound?", "Left: truck | Right: street drummer", "a truck, drums"),
        ("Where is what makes a sound?", "Right: baby", "a baby that cries"),
    ],
}  # fmt: skip
# (question, options, which of them is right, what is heard)
_CHOICES: list[tuple[str, tuple[str, ...], int, str]] = [
    ("What comes first?", ("the flash", "the beep", "both at once", "neither"), 1, "a beep"),
    ("Who is speaking?", ("the girl in the car", "the driver", "a radio", "the policeman"), 2, "a voice with noise"),
    ("How many bells ring?", ("one", "two", "three", "four"), 3, "bells"),
    ("Which room is it?", ("kitchen", "garage", "bathroom", "attic"), 0, "water, an echo"),
]


def make_items() -> tuple[Item, ...]:
    """All of them, four to six of each problem type, each with a grey clip and a caption of its sound."""
    texts = []
    for kind, rows in _TEXTS.items():
        golds = [gold for _, gold, _ in rows]
        for i, (question, gold, heard) in enumerate(rows):
            others = tuple(other for other in golds if other != gold)
            texts.append(Item(_prompt(f"{kind}-{i}", kind, question, gold, heard), others))
    return (*texts, *(_choice(i, *row) for i, row in enumerate(_CHOICES)))


def _choice(i: int, question: str, options: tuple[str, ...], right: int, heard: str) -> Item:
    letters = ascii_uppercase[: len(options)]
    asked = question + "".join(f"\n{letter}. {text}" for letter, text in zip(letters, options, strict=True))
    prompt = _prompt(f"choice-{i}", "choice", asked, letters[right], heard, options)
    return Item(prompt, tuple(letter for letter in letters if letter != letters[right]))


def _prompt(key: str, kind: str, question: str, gold: str, heard: str, options: tuple[str, ...] = ()) -> Prompt:
    frames = torch.full((NUM_FRAMES, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}]
    clip = Clip(f"attacked-{key}", frames, 1.0)
    return Prompt(f"attacked-{key}", messages, (clip,), gold, kind, options, audio_caption=heard)
