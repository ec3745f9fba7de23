import pytest
import torch
from tests_plain import plain_inputs, plain_logprobs, plain_positions

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
