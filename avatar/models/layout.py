r"""Where the tokens of a prompt sit: text, clip, text, clip, ..., text, each with positions of its own.

A position is three numbers, time, height and width (M-RoPE). The positions of a segment start at 0, and in a prompt it
begins one after the last position of the segment before it, so a clip is laid out once, whatever prompt it is shown in.
A clip's own times say where its frames sit, and which sound they stand beside. Where they are evenly spaced this gives
the tokens of transformers' processor and the integers of its ``get_rope_index``, and it goes on where these cannot:
``use_audio_in_video`` is one flag for a prompt and ``fps`` one rate, a segment needs neither.

Shapes: P tokens of a prompt, L of a segment, S steps in time, V tokens of a picture, A of a sound, M = V + A.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avatar.errors import DataError

TOLERANCE = 1e-3  # positions: 0.28 s at 25 a second is 7 in decimals, and a hair less in binary


@dataclass(frozen=True)
class Segment:
    """A stretch of a prompt.

    Attributes:
        ids: [L] token ids; of a clip, those that take the place of its ``<bos> placeholder <eos>``.
        position_ids: [3, L], M-RoPE positions from 0.
        kind: ``text``, or the placeholder that stands for the clip: ``video`` for frames with or without sound,
            ``image`` for a still picture, ``audio`` for sound alone.
    """

    ids: Tensor
    position_ids: Tensor
    kind: str = "text"


@dataclass(frozen=True)
class MediaTokens:
    """Ids of what a clip is written in.

    Attributes:
        pieces: Of ``video``, ``image`` and ``audio``, the token that stands for one piece.
        picture: What opens and closes a picture, moving or still.
        sound: What opens and closes a sound.
    """

    pieces: Mapping[str, int]
    picture: tuple[int, int]
    sound: tuple[int, int]


def step_positions(seconds: Tensor, per_second: float) -> Tensor:
    r"""Positions in time from true times.

    .. math:: p_i = \lfloor s_i r \rfloor

    What lies less than ``TOLERANCE`` below a position counts as that position.

    Args:
        seconds: [S] float64 s, from the clip's start.
        per_second: r, positions that a second takes.

    Returns:
        [S].
    """
    return (seconds.double() * per_second + TOLERANCE).floor().long()


def even_step_positions(steps: int, seconds_per_step: float, per_second: float) -> Tensor:
    """[S] positions of steps that follow each other evenly from 0 on, in fp32 and floored without tolerance.

    So transformers computes them, and so some rates of frames are floored otherwise than by :func:`step_positions`.
    """
    return (torch.arange(steps) * torch.tensor(seconds_per_step) * per_second).long()


def picture_positions(steps: Tensor, rows: int, columns: int) -> Tensor:
    """[3, V] positions of the tokens of a picture from those of its [S] steps: by time, then by row, then by column."""
    axes = (steps, torch.arange(rows), torch.arange(columns))
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)


def media_order(picture: Tensor, sound: Tensor, per_chunk: int) -> Tensor:
    """In which order the tokens of a picture and its sound are written: the picture of a chunk of time, then its sound.

    Args:
        picture: [V] positions in time.
        sound: [A] likewise.
        per_chunk: Positions that a chunk takes.

    Returns:
        [M] indices into picture and sound end to end.
    """
    return torch.cat([2 * _chunks(picture, per_chunk), 2 * _chunks(sound, per_chunk) + 1]).argsort(stable=True)


def _chunks(times: Tensor, per_chunk: int) -> Tensor:
    r"""[n] which chunk each token goes to.

    .. math:: c_i = \min(\lfloor t_i / k \rfloor, c_{i-1} + 1)

    From one token to the next it grows by at most one, as in transformers: where a step in time is longer than a chunk,
    tokens of one step fall into several chunks, and stand before the sound of their time.
    """
    place = torch.arange(len(times))
    return (times // per_chunk - place).cummin(0).values + place


def clip_segment(kind: str, picture: Tensor, num_audio: int, tokens: MediaTokens, per_chunk: int) -> Segment:
    """The tokens of a clip and their positions.

    Args:
        kind: ``video``, ``image`` or ``audio``.
        picture: [3, V] positions from 0; V is 0 for sound alone.
        num_audio: A, each token of sound taking one position from 0 on; 0 for a silent clip.
        tokens: Ids to write it in.
        per_chunk: Positions that a chunk of time takes.
    """
    sound = torch.arange(num_audio).expand(3, -1)
    order = media_order(picture[0], sound[0], per_chunk)
    pieces = torch.tensor([tokens.pieces[kind], tokens.pieces["audio"]])
    ids = pieces.repeat_interleave(torch.tensor([picture.shape[1], num_audio]))[order]
    ends = [pair for pair, n in ((tokens.picture, picture.shape[1]), (tokens.sound, num_audio)) if n]
    opening = torch.tensor([opens for opens, _ in ends])
    closing = torch.tensor([closes for _, closes in reversed(ends)])
    positions = bracket(torch.cat([picture, sound], 1)[:, order], len(ends))
    return Segment(torch.cat([opening, ids, closing]), positions, kind)


def bracket(media: Tensor, num_ends: int) -> Tensor:
    """Positions of a clip from those of its media tokens.

    The tokens before them share one position, and so do those after: a video with sound opens and closes with two. What
    comes after follows the last media token, which is not always the latest: where a sound ends before its picture and
    within the same chunk, the text goes on while the picture still lasts. So does transformers.

    Args:
        media: [3, M], from 0.
        num_ends: How many tokens come before, and as many after.

    Returns:
        [3, M + 2 * num_ends].
    """
    after = media[:, -1].max() + 2
    return torch.cat([media.new_zeros(3, num_ends), media + 1, after.expand(3, num_ends)], 1)


def text_segment(ids: Tensor) -> Segment:
    """Text counts alike on all three axes."""
    return Segment(ids, torch.arange(len(ids)).expand(3, -1))


def join(segments: Sequence[Segment]) -> Segment:
    """One segment of many; empty ones take no part."""
    segments = [segment for segment in segments if len(segment.ids)]
    start, positions = 0, []
    for segment in segments:
        positions.append(segment.position_ids + start)
        start = int(positions[-1][:, -1].max()) + 1
    return Segment(torch.cat([segment.ids for segment in segments]), torch.cat(positions, 1))


def lay_out(ids: Tensor, clips: Sequence[Segment], media_ids: Mapping[str, int], key: str) -> Segment:
    """Put each clip in the place of its ``<bos> placeholder <eos>``.

    Args:
        ids: [P'] tokens of the chat, one placeholder for each clip.
        clips: In the order of their placeholders.
        media_ids: The id of the placeholder of each kind of clip.
        key: Names the prompt in the error.

    Raises:
        DataError: Placeholders and clips differ in number, kind or order.
    """
    kinds = {index: kind for kind, index in media_ids.items()}
    places = [i for i, index in enumerate(ids.tolist()) if index in kinds]
    found, wanted = [clip.kind for clip in clips], [kinds[int(ids[i])] for i in places]
    if found != wanted:
        raise DataError(
            f"{key}: the messages have placeholders for [{', '.join(wanted)}], but the clips are "
            f"[{', '.join(found)}]; 'video' stands for a clip with frames, 'image' for a still picture and 'audio' for "
            "sound alone, in order"
        )
    segments, end = [], 0
    for place, clip in zip(places, clips, strict=True):
        segments += [text_segment(ids[end : place - 1]), clip]
        end = place + 2
    return join([*segments, text_segment(ids[end:])])
