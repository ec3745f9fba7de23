r"""Where the tokens of a prompt sit: text, clip, text, clip, ..., text, each with positions of its own.

A position is three numbers, time, height and width (M-RoPE). The positions of a segment start at 0, and in a prompt it
begins one after the last position of the segment before it, so a clip is laid out once, whatever prompt it is shown in.
This gives the integers of transformers' ``get_rope_index`` wherever that can say it, and goes on where it cannot:
``use_audio_in_video`` is one flag for a prompt, a segment needs none.

Shapes: P tokens of a prompt, L of a segment, V video tokens, A audio tokens, M = V + A.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avatar.errors import DataError


@dataclass(frozen=True)
class Segment:
    """A stretch of a prompt.

    Attributes:
        ids: [L] token ids; of a clip, those that take the place of its ``<bos> placeholder <eos>``.
        position_ids: [3, L], M-RoPE positions from 0.
        kind: ``text``, or the placeholder that stands for the clip: ``video`` for frames with or without sound,
            ``audio`` for sound alone.
    """

    ids: Tensor
    position_ids: Tensor
    kind: str = "text"


def video_positions(grid: Tensor, seconds_per_grid: float, per_second: float) -> Tensor:
    r"""Positions of video tokens, earliest first, then by row, then by column.

    .. math:: p_{t,h,w} = (\lfloor t s r \rfloor, h, w)

    The product is taken in fp32, as transformers does: in other precision some rates of frames are floored otherwise.

    Args:
        grid: [3] numbers of tokens: steps in time, rows, columns.
        seconds_per_grid: s, duration of one step.
        per_second: r, positions that a second takes.

    Returns:
        [3, V].
    """
    steps, rows, columns = (torch.arange(n) for n in grid.tolist())
    times = (steps * torch.tensor(seconds_per_grid) * per_second).long()
    return torch.stack(torch.meshgrid(times, rows, columns, indexing="ij")).flatten(1)


def interleave(video: Tensor, audio: Tensor, per_chunk: int) -> Tensor:
    """Positions of a video with its sound, by chunks of time: the video tokens of a chunk, then its audio tokens.

    With one of the two empty this is the other.

    Args:
        video: [3, V].
        audio: [3, A].
        per_chunk: Positions that a chunk takes.

    Returns:
        [3, M], in the order of the tokens that the processor writes.
    """
    order = torch.cat([2 * _chunks(video[0], per_chunk), 2 * _chunks(audio[0], per_chunk) + 1])
    return torch.cat([video, audio], 1)[:, order.argsort(stable=True)]


def _chunks(times: Tensor, per_chunk: int) -> Tensor:
    r"""[n] which chunk each token goes to.

    .. math:: c_i = \min(\lfloor t_i / k \rfloor, c_{i-1} + 1)

    From one token to the next it grows by at most one, as in transformers: where a step in time is longer than a chunk,
    tokens of one step fall into several chunks.
    """
    place = torch.arange(len(times))
    return (times // per_chunk - place).cummin(0).values + place


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
            f"[{', '.join(found)}]; 'video' stands for a clip with frames, 'audio' for one of sound alone, in order"
        )
    segments, end = [], 0
    for place, clip in zip(places, clips, strict=True):
        segments += [text_segment(ids[end : place - 1]), clip]
        end = place + 2
    return join([*segments, text_segment(ids[end:])])
