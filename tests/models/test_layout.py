import random

import pytest
import torch

from avatar.errors import DataError
from avatar.models.layout import Segment, bracket, interleave, join, lay_out, text_segment, video_positions

IMAGE, AUDIO, VIDEO, VISION_BOS, VISION_EOS, AUDIO_BOS, AUDIO_EOS, WORD = 10, 11, 12, 13, 14, 15, 16, 1
MEDIA = {"video": VIDEO, "audio": AUDIO}


@pytest.fixture
def model(adapter):
    """A thinker of other token ids than its tokenizer's: positions need no weights."""
    config = adapter.model.model.config
    for name, index in (("image", IMAGE), ("audio", AUDIO), ("video", VIDEO)):
        setattr(config, f"{name}_token_id", index)
    config.vision_start_token_id, config.audio_start_token_id = VISION_BOS, AUDIO_BOS
    return adapter.model.model


def video(grid, seconds, num_audio, per_chunk=25):
    """A clip with frames, and what transformers is told of it; ids in the order of the positions."""
    grid, sound = torch.tensor(grid), torch.arange(num_audio).expand(3, -1)
    positions = video_positions(grid, seconds, 25)
    kinds = torch.cat([torch.full((3, positions.shape[1]), VIDEO), torch.full((3, num_audio), AUDIO)], 1)
    marked = torch.cat([torch.cat([positions, sound], 1)[:1], kinds[:1]])  # times and kinds, put in order together
    media_ids = interleave(marked[:, kinds[0] == VIDEO], marked[:, kinds[0] == AUDIO], per_chunk)[1]
    bos, eos = ([VISION_BOS, AUDIO_BOS], [AUDIO_EOS, VISION_EOS]) if num_audio else ([VISION_BOS], [VISION_EOS])
    ids = torch.cat([torch.tensor(bos), media_ids, torch.tensor(eos)])
    media = interleave(positions, sound, per_chunk)
    told = {"grid": grid * torch.tensor([1, 2, 2]), "seconds": seconds, "num_audio": num_audio}
    return Segment(ids, bracket(media, len(bos)), "video"), told


def sound(num_audio):
    ids = torch.tensor([AUDIO_BOS, *[AUDIO] * num_audio, AUDIO_EOS])
    return Segment(ids, bracket(torch.arange(num_audio).expand(3, -1), 1), "audio"), {"num_audio": num_audio}


def words(n):
    return text_segment(torch.full((n,), WORD))


def reference(model, ids, told):
    """``get_rope_index`` of a prompt with at least one clip; 4 mel frames make a token."""
    videos, sounds = [t for t in told if "grid" in t], [t for t in told if t["num_audio"]]
    positions, _ = model.get_rope_index(
        ids[None],
        video_grid_thw=torch.stack([t["grid"] for t in videos]) if videos else None,
        attention_mask=torch.ones_like(ids)[None],
        use_audio_in_video=any(t["num_audio"] for t in videos),
        audio_seqlens=torch.tensor([4 * t["num_audio"] for t in sounds]) if sounds else None,
        second_per_grids=torch.tensor([t["seconds"] for t in videos]) if videos else None,
    )
    return positions[:, 0]


def prompt_of(clips, lengths):
    """Text, clip, text, ..., text; a length of 0 is no text there."""
    parts = [words(lengths[0])]
    for (clip, _), length in zip(clips, lengths[1:], strict=True):
        parts += [clip, words(length)]
    return join(parts)


# 25 positions a second and chunks of one second. Grids are steps, rows and columns of tokens.
CASES = {
    "text only": [],
    "sounding video": [video((4, 2, 2), 0.25, 25)],
    "silent video": [video((4, 2, 3), 0.25, 0)],
    "sound alone": [sound(17)],
    "two sounding videos, of other rates": [video((4, 2, 2), 0.25, 25), video((3, 3, 1), 0.5, 38)],
    "two silent videos, of other rates": [video((4, 2, 2), 0.25, 0), video((3, 3, 1), 0.7, 0)],
    "sound, then silent video": [sound(5), video((4, 2, 2), 0.25, 0)],
    "silent video, then sound": [video((4, 2, 2), 0.25, 0), sound(30)],
    "sound, then sounding video": [sound(9), video((4, 2, 2), 0.25, 25)],
    "sounding video, then sound": [video((4, 2, 2), 0.25, 25), sound(9)],
    "several chunks": [video((9, 2, 2), 0.4, 85)],
    "sound of one chunk under a picture of several": [video((9, 2, 2), 0.4, 7)],
    "picture of one chunk under a sound of several": [video((1, 2, 2), 0.25, 90)],
    "sound that ends before the picture in the same chunk": [video((4, 2, 2), 0.25, 2)],
    "steps longer than a chunk": [video((5, 2, 2), 2.5, 310)],
    "picture wider than long": [video((1, 3, 12), 0.25, 4)],
    "wide silent picture": [video((1, 2, 40), 0.25, 0)],
}


@pytest.mark.parametrize("lengths", [(3, 7, 20), (0, 1, 2), (4, 0, 1)], ids=["text between", "clip first", "adjacent"])
@pytest.mark.parametrize("clips", CASES.values(), ids=CASES.keys())
def test_positions_by_segments_are_those_of_the_whole_prompt(model, clips, lengths):
    prompt = prompt_of(clips, lengths[-len(clips) - 1 :])
    assert torch.equal(prompt.position_ids, reference(model, prompt.ids, [told for _, told in clips]))


@pytest.mark.parametrize("seconds_per_chunk", [1, 2])
def test_positions_are_those_of_transformers_for_any_clips(model, seconds_per_chunk):
    model.config.seconds_per_chunk = seconds_per_chunk
    chance = random.Random(seconds_per_chunk)
    for _ in range(150):
        sounding = chance.random() < 0.6
        clips = []
        for _ in range(chance.randint(1, 3)):
            if chance.random() < 0.3:
                clips.append(sound(chance.randint(1, 120)))
            else:
                grid = [chance.randint(1, 12), chance.randint(1, 4), chance.randint(1, 4)]
                seconds = chance.choice([2 / 8, 2 / 3, 2 * 7 / 25, 2 / 10.25, chance.uniform(0.05, 5)])
                clips.append(video(grid, seconds, chance.randint(1, 120) if sounding else 0, 25 * seconds_per_chunk))
        prompt = prompt_of(clips, [chance.randint(0, 6) for _ in range(len(clips))] + [chance.randint(1, 6)])
        assert torch.equal(prompt.position_ids, reference(model, prompt.ids, [told for _, told in clips]))


def test_a_silent_video_beside_a_sounding_one_sits_as_it_does_alone(model):
    """``get_rope_index`` has one flag for all videos of a prompt, so each half is compared with a prompt of its own.

    Each half is a prompt that transformers can say, and a segment starts one after the last of what came before.
    """
    sounding, silent = video((4, 2, 2), 0.25, 25), video((3, 3, 1), 0.5, 0)
    for first, second in ((sounding, silent), (silent, sounding)):
        whole = prompt_of([first, second], (3, 5, 7))
        halves = [prompt_of([first], (3, 5)), prompt_of([second], (0, 7))]
        plain = [reference(model, h.ids, [told]) for h, told in zip(halves, (first[1], second[1]), strict=True)]
        expected = torch.cat([plain[0], plain[1] + plain[0][0, -1] + 1], 1)
        assert torch.equal(whole.position_ids, expected)
        assert torch.equal(whole.ids, torch.cat([h.ids for h in halves]))


def test_both_openings_of_a_sounding_video_share_a_position_and_both_closings():
    # bos bos | 4 video tokens at times 0 0 6 6 | 3 audio tokens | eos eos; the eos follow the last token, at 2 + 1
    clip, _ = video((2, 1, 2), 0.25, 3)
    assert clip.position_ids[0].tolist() == [0, 0, 1, 1, 7, 7, 1, 2, 3, 4, 4]
    assert clip.position_ids[1].tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 3, 4, 4]
    assert clip.position_ids[2].tolist() == [0, 0, 1, 2, 1, 2, 1, 2, 3, 4, 4]


def test_chunks_take_turns():
    # one-second chunks: times 0 and 12 of the video, the first 25 of the sound, then 25 and 37, then the rest
    positions = interleave(video_positions(torch.tensor([4, 1, 1]), 0.5, 25), torch.arange(30).expand(3, -1), 25)
    assert positions[0].tolist() == [0, 12, *range(25), 25, 37, *range(25, 30)]


def test_empty_text_takes_no_part():
    parts = [words(2), words(0), sound(3)[0], words(0)]
    assert torch.equal(join(parts).position_ids, join([parts[0], parts[2]]).position_ids)
    assert join(parts).position_ids[0].tolist() == list(range(7))


PLACE = {"video": [VISION_BOS, VIDEO, VISION_EOS], "audio": [AUDIO_BOS, AUDIO, AUDIO_EOS]}


def test_a_clip_takes_the_place_of_its_placeholder_with_bos_and_eos():
    ids = torch.tensor([WORD, *PLACE["audio"], WORD, WORD, *PLACE["video"], WORD])
    clips = [sound(3)[0], video((1, 1, 2), 0.25, 0)[0]]
    prompt = lay_out(ids, clips, MEDIA, "k")
    expected = [WORD, *clips[0].ids.tolist(), WORD, WORD, *clips[1].ids.tolist(), WORD]
    assert prompt.ids.tolist() == expected


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["video"], []),
        ([], ["audio"]),
        (["video", "video"], ["video"]),
        (["audio"], ["video"]),
        (["video"], ["audio"]),
        (["audio", "video"], ["video", "audio"]),
    ],
)
def test_a_mismatch_names_the_prompt_and_both_lists(wanted, found):
    ids = torch.tensor([WORD, *(i for kind in wanted for i in PLACE[kind]), WORD])
    clips = [sound(3)[0] if kind == "audio" else video((1, 1, 1), 0.25, 0)[0] for kind in found]
    with pytest.raises(DataError) as error:
        lay_out(ids, clips, MEDIA, "shard/7")
    assert "shard/7: " in str(error.value)
    assert f"placeholders for [{', '.join(wanted)}]" in str(error.value)
    assert f"clips are [{', '.join(found)}]" in str(error.value)
