import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests_plain import plain_logprobs

from avatar.errors import CheckpointError, DataError
from avatar.models import load_adapter, load_skeleton, pack_skeleton
from avatar.types import Clip, Prompt, Sampling

CACHE_MB = 64


def stack(completions):
    ids = torch.nn.utils.rnn.pad_sequence([c.ids for c in completions], batch_first=True)
    behaviour = torch.nn.utils.rnn.pad_sequence([c.behaviour_logprobs for c in completions], batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(c.ids) for c in completions])[:, None]
    return ids, mask, behaviour


def sample(adapter, prompts, num, temperature=1.0, max_new_tokens=12, seed=0):
    prefixes = adapter.encode(prompts)
    sampling = Sampling(temperature, max_new_tokens)
    groups = adapter.generate(prefixes, num, sampling, torch.Generator().manual_seed(seed))
    return prefixes, groups


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_generation_and_scoring_give_the_same_logprobs(adapter, prompts, temperature):
    prefixes, groups = sample(adapter, prompts[:4], 3, temperature)
    ids, mask, behaviour = stack([c for g in groups for c in g])
    group = torch.arange(4).repeat_interleave(3)
    scored = adapter.logprobs(prefixes, ids, mask, group, temperature)
    torch.testing.assert_close(scored, behaviour, atol=1e-5, rtol=0)


def test_scoring_equals_the_unmodified_forward_on_ragged_groups(adapter, prompts):
    prefixes, groups = sample(adapter, prompts[:5], 2)
    completions = [c for g in groups for c in g]
    completions[3] = type(completions[3])(completions[3].ids[:1], completions[3].behaviour_logprobs[:1], "", False)
    ids, mask, _ = stack(completions)
    group = torch.arange(5).repeat_interleave(2)
    scored = adapter.logprobs(prefixes, ids, mask, group)
    for row, completion in enumerate(completions):
        plain = plain_logprobs(adapter, prompts[group[row]], completion.ids)
        torch.testing.assert_close(scored[row, : len(completion.ids)], plain, atol=1e-5, rtol=0)
        assert (scored[row, len(completion.ids) :] == 0).all()


def test_a_prompt_with_and_without_company_is_answered_the_same(adapter, prompts):
    _, together = sample(adapter, prompts, 1, temperature=0.0)
    for prompt, group in zip(prompts, together, strict=True):
        _, alone = sample(adapter, [prompt], 1, temperature=0.0)
        assert torch.equal(alone[0][0].ids, group[0].ids)


def test_the_same_seed_draws_the_same_and_another_does_not(adapter, prompts):
    def drawn(seed):
        return [c.ids.tolist() for g in sample(adapter, prompts[:2], 4, seed=seed)[1] for c in g]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_media_tokens_are_never_drawn(adapter, prompts):
    with torch.no_grad():  # a head that wants nothing but a media token
        adapter.model.lm_head.weight.zero_()
        for index in adapter.media_token_ids.values():
            adapter.model.lm_head.weight[index] = 50.0
    for temperature in (0.0, 1.0):
        _, groups = sample(adapter, prompts[:2], 4, temperature)
        drawn = torch.cat([c.ids for g in groups for c in g])
        assert not torch.isin(drawn, adapter.media_ids).any()


def test_a_completion_ends_with_its_stop_token_or_at_the_limit(adapter, prompts):
    _, groups = sample(adapter, prompts[:4], 8, max_new_tokens=40)
    for completion in (c for g in groups for c in g):
        stops = torch.isin(completion.ids, adapter.stop_ids)
        assert completion.finished == bool(stops[-1])
        assert not stops[:-1].any()
        assert completion.finished or len(completion.ids) == 40
        assert len(completion.behaviour_logprobs) == len(completion.ids)


def test_a_frozen_clip_goes_through_the_towers_once(adapter, prompts):
    first = adapter.encode(prompts)
    calls = adapter.tower_calls
    again = adapter.encode(prompts)
    assert adapter.tower_calls == calls == {"video": 2, "image": 0, "audio": 2}  # ten prompts about two clips
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.features["video"], b.features["video"])
        assert torch.equal(a.position_ids, b.position_ids)


def test_a_clip_is_encoded_to_the_same_bits_whatever_was_encoded_before(adapter, prompts):
    together = adapter.encode(prompts)
    for prompt, prefix in zip(prompts, together, strict=True):
        adapter.clips.cache.clear()
        assert torch.equal(adapter.encode([prompt])[0].features["audio"], prefix.features["audio"])


def test_nothing_is_kept_while_the_towers_learn(adapter, prompts):
    adapter.freeze_towers(False)
    prefix = adapter.encode(prompts[:1])[0]
    assert prefix.features["video"].requires_grad
    assert len(adapter.clips.cache) == 0
    calls = adapter.tower_calls
    adapter.encode(prompts[:1])
    assert adapter.tower_calls == {**calls, "video": calls["video"] + 1, "audio": calls["audio"] + 1}


def test_clips_encoded_together_equal_clips_encoded_alone(adapter, prompts):
    clips = list({p.clips[0].key: p.clips[0] for p in prompts}.values())
    clips.insert(1, Clip("still", clips[0].frames[:1], image=True))
    adapter.freeze_towers(False)
    together = adapter.tower_features(clips)
    for clip, features in zip(clips, together, strict=True):
        alone = adapter.tower_features([clip])[0]
        assert set(features) == set(alone) == ({"image"} if clip.image else {"video", "audio"})
        for kind in alone:
            torch.testing.assert_close(features[kind], alone[kind], atol=1e-5, rtol=0)


def test_a_second_of_clip_is_sixteen_video_and_twenty_five_audio_tokens(adapter, prompts):
    # 8 frames / 2 per patch = 4 steps of (56 / 28)^2 = 4 tokens; 100 mel frames / 2 / 2 = 25
    prefix = adapter.encode(prompts[:1])[0]
    assert {kind: len(features) for kind, features in prefix.features.items()} == {"audio": 25, "video": 16}
    assert (prefix.ids == adapter.media_token_ids["audio"]).sum() == 25


def test_a_silent_clip_and_a_prompt_without_media_work(adapter, prompts):
    clip = prompts[0].clips[0]
    silent = Prompt("s", prompts[0].messages, (Clip("silent", clip.frames, clip.fps),), "1")
    text_only = Prompt("t", [{"role": "user", "content": "how many beeps ?"}], (), "1")
    prefixes, groups = sample(adapter, [silent, text_only], 2)
    assert [set(prefix.features) for prefix in prefixes] == [{"video"}, set()]
    assert prefixes[1].position_ids.shape == (3, len(prefixes[1].ids))
    ids, mask, behaviour = stack([c for g in groups for c in g])
    scored = adapter.logprobs(prefixes, ids, mask, torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(scored, behaviour, atol=1e-5, rtol=0)


def test_a_long_sound_is_not_cut_to_the_extractors_chunk(adapter, prompts):
    adapter.processor.feature_extractor.chunk_length = 1  # 16,000 samples
    adapter.processor.feature_extractor.n_samples = 16_000
    clip = prompts[0].clips[0]
    long = Clip("long", clip.frames.repeat(2, 1, 1, 1), clip.fps, clip.audio.repeat(2))
    prefix = adapter.encode([Prompt("l", prompts[0].messages, (long,), "1")])[0]
    assert prefix.features["audio"].shape[0] == 50  # two seconds at 25 tokens a second


def test_clips_and_placeholders_must_match(adapter, prompts):
    content = [{"type": "video"}, {"type": "video"}, {"type": "text", "text": "?"}]
    with pytest.raises(DataError, match=r"k: .*placeholders for \[video, video\], but the clips are \[video\]"):
        adapter.encode([Prompt("k", [{"role": "user", "content": content}], prompts[0].clips, "1")])


def test_a_saved_model_comes_back_bit_equal(adapter, prompts, tmp_path):
    adapter.save_pretrained(tmp_path / "saved")
    again = load_adapter(str(tmp_path / "saved"), "float32", "sdpa", CACHE_MB)
    assert again.fingerprint() == adapter.fingerprint()
    again.freeze_towers()
    ours, theirs = sample(adapter, prompts[:2], 2)[1], sample(again, prompts[:2], 2)[1]
    assert [c.ids.tolist() for g in ours for c in g] == [c.ids.tolist() for g in theirs for c in g]


def test_a_skeleton_and_weights_rebuild_the_model_without_its_folder(adapter, prompts):
    again = load_skeleton(pack_skeleton(adapter), "float32", "sdpa", CACHE_MB)
    again.load_state_dict(adapter.state_dict())
    again.freeze_towers()
    assert again.fingerprint() == adapter.fingerprint()
    assert sample(again, prompts[:2], 1, 0.0)[1][0][0].text == sample(adapter, prompts[:2], 1, 0.0)[1][0][0].text


def test_a_skeleton_cannot_write_outside_its_folder(adapter):
    with pytest.raises(CheckpointError, match="path in its name"):
        load_skeleton({"../evil.json": torch.zeros(1, dtype=torch.uint8)}, "float32", "sdpa", CACHE_MB)


def test_the_thinker_of_a_full_checkpoint_is_loaded_by_the_same_code(adapter, micro, tmp_path):
    """The released Qwen2.5-Omni holds the thinker under ``thinker.`` beside a talker, with a config of its own type."""
    adapter.processor.save_pretrained(tmp_path)
    weights = {f"thinker.{k}": v for k, v in load_file(micro / "model" / "model.safetensors").items()}
    save_file(weights | {"talker.some.weight": torch.zeros(2)}, tmp_path / "model.safetensors", {"format": "pt"})
    thinker = json.loads((micro / "model" / "config.json").read_text())
    config = {"model_type": "qwen2_5_omni", "architectures": ["Qwen2_5OmniForConditionalGeneration"]}
    (tmp_path / "config.json").write_text(json.dumps(config | {"thinker_config": thinker}))
    loaded = load_adapter(str(tmp_path), "float32", "sdpa", CACHE_MB)
    assert loaded.fingerprint() == adapter.fingerprint()


def test_missing_weights_are_an_error_and_not_random(micro, tmp_path, adapter):
    adapter.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing.*up_proj"):
        load_adapter(str(tmp_path), "float32", "sdpa", CACHE_MB)


def test_no_model_there_says_where(tmp_path):
    with pytest.raises(CheckpointError, match="no model at"):
        load_adapter(str(tmp_path / "nothing"), "float32", "sdpa", CACHE_MB)


def test_a_fingerprint_changes_with_one_weight(adapter):
    before = adapter.fingerprint()
    with torch.no_grad():
        adapter.model.lm_head.weight[0, 0] += 1e-3
    assert adapter.fingerprint() != before
