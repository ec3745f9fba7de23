import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests_plain import plain_inputs, plain_logprobs

from avatar.errors import DataError
from avatar.types import Clip, Prompt


def noise(key, seconds, seed=0):
    """Loud to its last sample, so that a window that reaches past the end is heard if 4 mel frames make each token."""
    samples = torch.rand(round(16_000 * seconds), generator=torch.Generator().manual_seed(seed))
    return Clip(key, audio=2 * samples - 1)


def snow(num, height, width, seed=0):
    """[num, 3, height, width] frames of which any scaling changes the bytes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (num, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.fixture
def kinds(prompts):
    """A clip of each kind, and other ones of those with frames."""
    first, second = {p.clips[0].key: p.clips[0] for p in prompts}.values()
    return {
        "sounding": first,
        "sounding 2": Clip("other", second.frames[:6], second.fps, second.audio[:9000]),
        "short": Clip("short", first.frames, first.fps, noise("n", 0.1).audio),
        "silent": Clip("silent", first.frames, first.fps),
        "silent 2": Clip("silent 2", second.frames[:4, :, :28], second.fps),
        "sound": noise("sound", 0.72),
        "sound 2": noise("sound 2", 1.28, seed=1),
        "image": Clip("image", snow(1, 56, 84), image=True),
        "image 2": Clip("image 2", snow(1, 112, 28, seed=1), image=True),
    }


def ask(clips, question="how many beeps ?", key="k"):
    """A prompt with text before, between and after its clips."""
    parts = [{"type": "text", "text": "listen ."}]
    for clip in clips:
        parts += [{"type": clip.kind}, {"type": "text", "text": "and ?"}]
    return Prompt(key, [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}], tuple(clips), "1")


CASES = [
    [],
    ["sound"],
    ["sound", "sound 2"],
    ["silent"],
    ["silent", "silent 2"],
    ["silent 2", "silent 2"],
    ["sounding", "sounding 2"],
    ["sounding", "sounding"],
    ["sound", "silent"],
    ["silent", "sound"],
    ["sound", "sounding"],
    ["sounding", "sound", "sounding 2", "sound 2"],
    ["image"],
    ["image", "image 2"],
    ["image 2", "image 2"],
    ["image", "sounding"],
    ["silent", "image 2"],
    ["sound", "image", "sound 2"],
    ["image", "sounding", "sound", "image 2", "sounding 2"],
]


def plain_positions(adapter, inputs, sounding):
    """[3, P] of ``get_rope_index`` for what the processor gave."""
    seconds, mask = inputs.get("video_second_per_grid"), inputs.get("feature_attention_mask")
    positions, _ = adapter.model.model.get_rope_index(
        inputs["input_ids"],
        image_grid_thw=inputs.get("image_grid_thw"),
        video_grid_thw=inputs.get("video_grid_thw"),
        attention_mask=torch.ones_like(inputs["input_ids"]),
        use_audio_in_video=sounding,
        audio_seqlens=None if mask is None else mask.sum(-1),
        second_per_grids=None if seconds is None else torch.as_tensor(seconds),
    )
    return positions[:, 0]


@torch.no_grad()
def plain_features(adapter, inputs):
    """[tokens, H] by kind."""
    model, features = adapter.model, {}
    if "input_features" in inputs:
        heard = model.get_audio_features(inputs["input_features"], inputs["feature_attention_mask"])
        features["audio"] = heard.last_hidden_state
    if "pixel_values_videos" in inputs:
        seen = model.get_video_features(inputs["pixel_values_videos"], inputs["video_grid_thw"])
        features["video"] = torch.cat(seen.pooler_output)
    if "pixel_values" in inputs:
        seen = model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
        features["image"] = torch.cat(seen.pooler_output)
    return features


@torch.no_grad()
def assert_scored_as_plainly(adapter, prompt):
    ids = adapter.tokenize_completion("2 beeps")
    mask = torch.ones(1, len(ids), dtype=torch.bool)
    scored = adapter.logprobs(adapter.encode([prompt]), ids[None], mask, torch.tensor([0]))[0]
    torch.testing.assert_close(scored, plain_logprobs(adapter, prompt, ids), atol=1e-5, rtol=0)


@pytest.mark.parametrize("names", CASES, ids=lambda names: ", ".join(names) or "no media")
def test_a_prompt_of_any_kind_is_what_transformers_makes_of_it(adapter, kinds, names):
    """Ids and positions bit for bit; features and log-probs to 1e-5."""
    prompt = ask([kinds[name] for name in names])
    prefix = adapter.encode([prompt])[0]
    inputs, sounding = plain_inputs(adapter, prompt)
    assert torch.equal(prefix.ids, inputs["input_ids"][0])
    assert torch.equal(prefix.position_ids, plain_positions(adapter, inputs, sounding))
    assert set(prefix.features) == plain_features(adapter, inputs).keys()
    for kind, features in plain_features(adapter, inputs).items():
        torch.testing.assert_close(prefix.features[kind], features, atol=1e-5, rtol=0)
    assert_scored_as_plainly(adapter, prompt)


def test_a_completion_goes_on_from_the_last_position_of_its_prompt(adapter, kinds):
    """The sound ends long before its picture in the same chunk and little text follows: the picture is the latest."""
    clip = kinds["short"]
    content = [{"type": "text", "text": "how many beeps ?"}, {"type": "video"}]
    prompt = Prompt("k", [{"role": "user", "content": content}], (clip,), "1")
    prefix = adapter.encode([prompt])[0]
    inputs, sounding = plain_inputs(adapter, prompt)
    assert torch.equal(prefix.position_ids, plain_positions(adapter, inputs, sounding))
    assert prefix.position_ids.max() > prefix.position_ids[0, -1]
    assert_scored_as_plainly(adapter, prompt)


def test_a_silent_clip_may_stand_beside_a_sounding_one(adapter, kinds):
    """One flag for all videos of a prompt is all transformers has, so each half is compared with a prompt of its own.

    The two prompts are told apart by the text, which is cut where the second clip opens.
    """
    for names in (("sounding", "silent 2"), ("silent", "sounding 2")):
        clips = [kinds[name] for name in names]
        whole, first, second = adapter.encode([ask(clips), ask(clips[:1]), ask(clips[1:])])
        bos = adapter.model.config.vision_start_token_id
        start = int((whole.ids == bos).nonzero()[1])
        cut = int((second.ids == bos).nonzero()[0])
        assert torch.equal(whole.ids[start:], second.ids[cut:])
        offset = whole.position_ids[0, start - 1] - second.position_ids[0, cut - 1]
        assert torch.equal(whole.position_ids[:, start:], second.position_ids[:, cut:] + offset)
        assert torch.equal(whole.ids[:start], first.ids[:start])
        assert torch.equal(whole.position_ids[:, :start], first.position_ids[:, :start])
        for kind, features in whole.features.items():
            halves = [half.features[kind] for half in (first, second) if kind in half.features]
            assert torch.equal(features, torch.cat(halves))


def test_prompts_of_all_kinds_share_a_batch(adapter, kinds):
    """Scored together they give what they give alone, while the towers learn and pass over all clips at once."""
    adapter.freeze_towers(False)
    asked = [ask([kinds[name] for name in names]) for names in ([], ["sound"], ["silent"], ["sounding", "sound 2"])]
    ids = adapter.tokenize_completion("3 flashes")
    mask = torch.ones(4, len(ids)).bool()
    together = adapter.logprobs(adapter.encode(asked), ids.expand(4, -1), mask, torch.arange(4))
    for row, prompt in zip(together, asked, strict=True):
        torch.testing.assert_close(row, plain_logprobs(adapter, prompt, ids), atol=1e-5, rtol=0)


def gradients(adapter, prefixes):
    """Of a sum that weighs every feature of every prompt differently."""
    adapter.zero_grad()
    total = torch.zeros(())
    for i, prefix in enumerate(prefixes):
        for features in prefix.features.values():
            total = total + (features * (torch.arange(features.numel()).view_as(features) + i).cos()).sum()
    total.backward()
    named = (item for tower in adapter.towers() for item in tower.named_parameters())
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


def ran(video=0, image=0, audio=0):
    """``tower_calls`` of so many."""
    return {"video": video, "image": image, "audio": audio}


def run_since(before, adapter):
    return {kind: calls - before[kind] for kind, calls in adapter.tower_calls.items()}


def test_prompts_that_share_a_clip_share_one_pass_and_their_gradients_add_up(adapter, kinds):
    adapter.freeze_towers(False)
    clips = [kinds["sounding"], kinds["sound"], kinds["image"]]
    asked = [ask(clips, key="bare"), ask(clips, "count the beeps , then answer .", key="hinted"), ask(clips[:1])]
    before = adapter.tower_calls
    shared = adapter.encode(asked)
    assert run_since(before, adapter) == ran(video=1, image=1, audio=2)
    apart = [adapter.encode([prompt])[0] for prompt in asked]
    assert run_since(before, adapter) == ran(video=1 + 3, image=1 + 2, audio=2 + 5)
    expected = gradients(adapter, apart)
    ours = gradients(adapter, shared)
    assert set(ours) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-5 * float(gradient.abs().max()) + 1e-6, rtol=0)


def test_each_tower_counts_the_clips_that_it_is_for(adapter, kinds):
    told = {"sounding": ran(video=1, audio=1), "silent": ran(video=1), "sound": ran(audio=1), "image": ran(image=1)}
    for name, wanted in told.items():
        before = adapter.tower_calls
        adapter.encode([ask([kinds[name]])])
        assert run_since(before, adapter) == wanted


def test_a_frozen_clip_is_taken_from_the_store_in_any_prompt(adapter, kinds):
    first = adapter.encode([ask([kinds["sound"], kinds["silent"], kinds["image"]])])[0]
    calls = adapter.tower_calls
    again = adapter.encode([ask([kinds["silent"]], "where ?"), ask([kinds["sound"], kinds["image"]], "when ?")])
    assert adapter.tower_calls == calls
    for kind, features in (again[0].features | again[1].features).items():
        assert torch.equal(features, first.features[kind])
    assert not first.features["audio"].requires_grad


def test_a_clip_that_the_store_cannot_hold_is_still_encoded_once_a_batch(adapter, kinds):
    adapter.clips.cache.max_bytes = 0
    adapter.encode([ask([kinds["sounding"]]), ask([kinds["sounding"]], "where ?")])
    assert adapter.tower_calls == ran(video=1, audio=1)


@pytest.mark.parametrize("frozen", [True, False])
def test_one_key_with_and_without_its_frames_or_sound_is_three_clips(adapter, kinds, frozen):
    adapter.freeze_towers(frozen)
    whole = kinds["sounding"]
    picture, sound = Clip(whole.key, whole.frames, whole.fps), Clip(whole.key, audio=whole.audio)
    clips = [whole, picture, sound]

    def sizes(features):
        return [{kind: len(tokens) for kind, tokens in of_clip.items()} for of_clip in features]

    wanted = [{"video": 16, "audio": 25}, {"video": 16}, {"audio": 25}]
    assert sizes(p.features for p in adapter.encode([ask([clip]) for clip in clips])) == wanted
    assert adapter.tower_calls == ran(video=2, audio=2)
    assert sizes(adapter.tower_features([*clips, whole])) == [*wanted, wanted[0]]


def test_one_key_as_an_image_and_as_a_video_of_one_frame_is_two_clips(adapter, kinds):
    still = kinds["image"]
    moving = Clip(still.key, still.frames, 1.0)
    assert [set(f) for f in adapter.tower_features([still, moving, still])] == [{"image"}, {"video"}, {"image"}]


@pytest.mark.parametrize("samples", [321, 11_520, 11_600])
@torch.no_grad()
def test_a_sound_is_heard_as_in_the_extractors_long_chunk(adapter, samples):
    """Padded to 300 s the last window sees silence after the end: without room for that it would see a reflection.

    Not to the bit: of few frames, some processors sum the mel products in another order.
    """
    clip = noise("loud", samples / 16_000)
    inputs, _ = plain_inputs(adapter, ask([clip]))
    heard = adapter.model.get_audio_features(inputs["input_features"], inputs["feature_attention_mask"])
    ours = adapter.tower_features([clip])[0]["audio"]
    torch.testing.assert_close(ours, heard.last_hidden_state, atol=1e-6, rtol=0)


def test_a_sound_alone_may_be_longer_than_the_extractors_chunk(adapter):
    adapter.processor.feature_extractor.chunk_length = 1
    adapter.processor.feature_extractor.n_samples = 16_000
    assert len(adapter.encode([ask([noise("long", 2.0)])])[0].features["audio"]) == 50


def refused(adapter, clip):
    """The error that names the clip."""
    with pytest.raises(DataError, match=f"{clip.key}: ") as error:
        adapter.tower_features([clip])
    return error.value


def test_a_clip_with_nothing_to_encode_is_named_and_counted_by_its_cause(adapter, kinds):
    error = refused(adapter, Clip("nothing"))
    assert "needs frames, sound or both" in str(error)
    assert error.cause == "missing media"
    silence = "sound too short"
    for samples, frames, cause in ((0, None, "no sound"), (320, None, silence), (320, kinds["silent"].frames, silence)):
        error = refused(adapter, Clip("brief", frames, 8.0, torch.zeros(samples)))
        assert f"needs more than 320 samples for its first token, but it has {samples}" in str(error)
        assert error.cause == cause
    assert len(adapter.tower_features([Clip("one", audio=noise("one", 321 / 16_000).audio)])[0]["audio"]) == 1
    for image in (False, True):
        assert refused(adapter, Clip("dark", snow(0, 28, 28), 1.0, image=image)).cause == "no picture"


def test_a_sound_of_which_no_token_comes_is_an_error(adapter, kinds, monkeypatch):
    """Whatever the extractor thinks of it: it is never heard as silence."""
    extractor = type(adapter.processor.feature_extractor)
    plain = extractor.__call__

    def deaf(self, *args, **kwargs):
        made = plain(self, *args, **kwargs)
        made["attention_mask"] = torch.zeros_like(made["attention_mask"])
        return made

    monkeypatch.setattr(extractor, "__call__", deaf)
    for name in ("sound", "sounding"):
        assert refused(adapter, kinds[name]).cause == "no sound"


def test_an_image_is_one_frame_without_sound(adapter, kinds):
    for frames, audio in ((snow(2, 28, 28), None), (snow(1, 28, 28), kinds["sound"].audio)):
        error = refused(adapter, Clip("album", frames, 0.0, audio, image=True))
        assert "an image is one frame without sound" in str(error)


@pytest.mark.parametrize(
    ("part", "name", "wanted"),
    [
        ("audio", "sounding", "audio"),
        ("video", "sound", "video"),
        ("image", "silent", "image"),
        ("video", "image", "video"),
    ],
)
def test_a_placeholder_of_another_kind_is_refused(adapter, kinds, part, name, wanted):
    prompt = Prompt("shard/7", [{"role": "user", "content": [{"type": part}]}], (kinds[name],), "1")
    found = kinds[name].kind
    with pytest.raises(DataError, match=rf"shard/7: .*placeholders for \[{wanted}\], but the clips are \[{found}\]"):
        adapter.encode([prompt])


# -- sizes -------------------------------------------------------------------------------------------------------------


def pixels_seen(adapter, clip, monkeypatch):
    """[F, 3, H, W] uint8 that the vision tower was shown, put together again from its patches; a video's F is even."""
    processor, shown = adapter.processor.video_processor, []

    def look(pixels, grids):
        shown.extend([pixels, grids])
        raise InterruptedError

    monkeypatch.setattr(adapter.model, "get_video_features", look)
    with pytest.raises(InterruptedError):
        adapter.tower_features([clip])
    (steps, rows, columns), pixels = shown[1][0].tolist(), shown[0]
    # steps, row and column of a token, row and column of a patch in it, colour, frame of the step, pixels of the patch
    patches = pixels.view(steps, rows // 2, columns // 2, 2, 2, 3, 2, 14, 14).permute(0, 6, 5, 1, 3, 7, 2, 4, 8)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (processor.image_mean, processor.image_std))
    frames = (patches.reshape(2 * steps, 3, 14 * rows, 14 * columns) * std + mean) * 255
    assert (frames - frames.round()).abs().max() < 1e-3
    return frames.round().byte()


# tiny; 201 times as wide as high, which Qwen's own sizing refuses; above all of Qwen's limits of a frame
@pytest.mark.parametrize("size", [(28, 28), (28, 5628), (140, 84), (1400, 1400)], ids=str)
@pytest.mark.parametrize("num", [1, 4, "image"])
def test_frames_of_whole_tokens_are_seen_to_the_byte_whatever_their_size(adapter, size, num, monkeypatch):
    frames = snow(1 if num == "image" else num, *size)
    seen = pixels_seen(adapter, Clip("whole", frames, 1.0, image=num == "image"), monkeypatch)
    assert torch.equal(seen[: len(frames)], frames)


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize(
    ("size", "nearest"),
    [((60, 100), (56, 112)), ((27, 29), (28, 28)), ((5, 5), (28, 28)), ((1399, 1387), (1400, 1400))],
)
def test_other_frames_are_scaled_to_the_nearest_whole_tokens(adapter, size, nearest, image, monkeypatch):
    frames = torch.full((1, 3, *size), 77, dtype=torch.uint8)
    seen = pixels_seen(adapter, Clip("odd", frames, 1.0, image=image), monkeypatch)
    assert seen.shape[-2:] == nearest
    assert (seen == 77).all()


# -- true times --------------------------------------------------------------------------------------------------------


def timed(key, times, height=28, width=28, audio=None):
    """A clip whose frames are shown at ``times``; its rate says nothing of them."""
    return Clip(key, snow(len(times), height, width), 99.0, audio, times=torch.tensor(times, dtype=torch.float64))


def test_a_step_is_where_the_first_of_its_frames_is(adapter):
    # 25 positions a second: frames at 0.28 and 1.0 make the step at 7, those at 1.5 and 1.51 the one at 37, and the
    # last frame, alone and so shown twice, that at 90. One position more, since the clip opens with 0.
    positions = adapter.clips([timed("k", [0.28, 1.0, 1.5, 1.51, 3.6])], frozen=True)[0].segment.position_ids
    assert positions[0].tolist() == [0, 8, 38, 91, 92]
    one = adapter.clips([timed("one", [2.0])], frozen=True)[0].segment.position_ids
    assert one[0].tolist() == [0, 51, 52]


def test_even_times_are_the_rate(adapter, kinds):
    for name in ("sounding", "silent", "short"):
        clip = kinds[name]
        times = torch.arange(len(clip.frames), dtype=torch.float64) / clip.fps
        by_rate = Clip("rate", clip.frames, clip.fps, clip.audio)
        by_times = Clip("times", clip.frames, 0.0, clip.audio, times=times)
        ours, theirs = (encoded.segment for encoded in adapter.clips([by_times, by_rate], frozen=True))
        assert torch.equal(ours.ids, theirs.ids)
        assert torch.equal(ours.position_ids, theirs.position_ids)


@pytest.mark.parametrize(
    "times", [[0.0, 1.0], [0.0, 1.0, 2.0, 1.9], [-0.1, 0.0, 1.0, 2.0], [0.0, 1.0, float("nan"), 3.0]]
)
def test_times_that_do_not_fit_the_frames_are_refused(adapter, times):
    clip = Clip("late", snow(4, 28, 28), 1.0, times=torch.tensor(times, dtype=torch.float64))
    assert "times must give each of 4 frames its second" in str(refused(adapter, clip))


@st.composite
def filmed(draw):
    """Frames at any times, a pause of many seconds among them, of any size, with sound of any length or none."""
    gaps = draw(st.lists(st.one_of(st.floats(0, 1), st.floats(0, 9)), min_size=1, max_size=24))
    times = torch.tensor(gaps, dtype=torch.float64).cumsum(0)
    samples = draw(st.one_of(st.none(), st.integers(321, 20 * 16_000)))
    audio = None if samples is None else torch.zeros(samples)
    rows, columns = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    return timed(f"film {gaps} {samples} {rows} {columns}", times.tolist(), 28 * rows, 28 * columns, audio)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filmed())
def test_picture_and_sound_sit_at_their_true_times(adapter, clip):
    """Each step less than 1/25 s before its first frame, each audio token at its 40 ms, and in order by 2 s chunks."""
    adapter.model.config.seconds_per_chunk = 2
    segment = adapter.clips([clip], frozen=True)[0].segment
    ids, positions = segment.ids, segment.position_ids - 1  # the clip opens with one position
    is_video, is_audio = (ids == adapter.media_token_ids[kind] for kind in ("video", "audio"))

    true = clip.times[::2]
    tokens = clip.frames[0, 0].numel() // 28**2  # of a step
    seen = positions[:, is_video].view(3, len(true), tokens)
    assert (seen[0] == seen[0, :, :1]).all()
    early = true - seen[0, :, 0] / 25
    assert (early >= -1e-3 / 25).all()
    assert (early < 1 / 25).all()
    assert (seen[1:] == seen[1:, :1]).all()  # rows and columns are those of each step

    heard = positions[0, is_audio]
    starts = torch.arange(0, 0 if clip.audio is None else len(clip.audio), 640) / 16_000  # 640 samples are 40 ms
    assert abs(len(heard) - len(starts)) <= 1
    assert ((heard[: len(starts)] / 25 - starts[: len(heard)]).abs() < 0.04).all()

    chunk = positions[0] // 50
    sounds_before = is_audio.cumsum(0)[is_video]
    assert (sounds_before <= 50 * chunk[is_video]).all()  # no picture after the sound of a later chunk
    if (true.diff(prepend=torch.zeros(1)) < 2).all():  # else a step may fall into the chunks that have no other
        order = (2 * chunk + is_audio.long())[is_video | is_audio]
        assert (order.diff() >= 0).all()


@pytest.mark.parametrize("names", [["sounding"], ["silent", "silent 2"], ["sounding", "sound", "sounding 2"]])
def test_without_times_at_two_a_second_it_is_the_processor_that_knows_no_rate(adapter, kinds, names):
    """``legacy_fps``: ids and positions of transformers left to its defaults, with 2 s chunks as released."""
    adapter.model.config.seconds_per_chunk = 2
    clips = [Clip(f"legacy {n}", kinds[n].frames, 2.0 if kinds[n].fps else 0.0, kinds[n].audio) for n in names]
    prompt = ask(clips)
    text = adapter.processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
    videos, sounds = ([c for c in clips if getattr(c, what) is not None] for what in ("frames", "audio"))
    number = iter(range(len(videos)))
    media = {"videos": [clip.frames for clip in videos], "videos_kwargs": {"do_resize": False}}
    if sounds:
        sources = [None if clip.frames is None else next(number) for clip in sounds]
        media |= {"audio": [clip.audio.numpy() for clip in sounds], "audio_from_video_indices": sources}
        media |= {"load_audio_from_video": True}
    inputs = adapter.processor(text=[text], return_tensors="pt", **media)
    prefix = adapter.encode([prompt])[0]
    assert torch.equal(prefix.ids, inputs["input_ids"][0])
    assert torch.equal(prefix.position_ids, plain_positions(adapter, inputs, bool(sounds)))
    assert (
        25 in (prefix.position_ids[0].diff()[prefix.ids[1:] == adapter.media_token_ids["video"]])
    )  # one second a step
