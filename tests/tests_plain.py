"""The plain way, for comparison: the unmodified processor and forward of transformers, one completion at a time."""

import torch


def plain_inputs(adapter, prompt):
    """(the processor's output for a prompt, ``use_audio_in_video``), which transformers has one of for all videos."""
    text = adapter.processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
    videos = [clip for clip in prompt.clips if clip.kind == "video"]
    images = [clip.frames[0] for clip in prompt.clips if clip.image]
    sounds = [clip for clip in prompt.clips if clip.audio is not None]
    sounding = any(clip.audio is not None for clip in videos)
    assert not sounding or all(clip.audio is not None for clip in videos), "one flag for all videos"
    assert len({clip.fps for clip in videos}) < 2, "one rate for all videos"
    media = {"audio": [clip.audio.numpy() for clip in sounds]} if sounds else {}
    size = {"shortest_edge": 28 * 28, "longest_edge": 2**30}  # frames come in the size that they are shown in
    if images:
        media |= {"images": images, "images_kwargs": {"size": size}}
    if videos:
        rate = {"do_sample_frames": False, "fps": videos[0].fps}
        media["videos"] = [clip.frames for clip in videos]
        media["videos_kwargs"] = {**rate, "cap_pixels_per_frame": False, "size": size}
        media["seconds_per_chunk"] = float(adapter.model.config.seconds_per_chunk)
        media["position_id_per_seconds"] = 25
    if sounding:
        number = iter(range(len(videos)))
        media["load_audio_from_video"] = True
        media["audio_from_video_indices"] = [None if clip.frames is None else next(number) for clip in sounds]
    return adapter.processor(text=[text], return_tensors="pt", **media), sounding


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


def plain_logits(adapter, prompt, completion_ids):
    """[T, V] fp32 logits of one completion's tokens."""
    inputs, sounding = plain_inputs(adapter, prompt)
    inputs["input_ids"] = torch.cat([inputs["input_ids"][0], completion_ids])[None]
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return adapter.model(**inputs, use_audio_in_video=sounding).logits[0].float()[-len(completion_ids) - 1 : -1]


def plain_logprobs(adapter, prompt, completion_ids, temperature=1.0):
    """[T] log-probs of one completion."""
    scored = torch.log_softmax(plain_logits(adapter, prompt, completion_ids) / temperature, -1)
    return scored.gather(-1, completion_ids[:, None])[:, 0]
