"""The plain way, for comparison: the unmodified processor and forward of transformers, one completion at a time."""

import torch


def plain_logprobs(adapter, prompt, completion_ids, temperature=1.0):
    """[T] log-probs of one completion."""
    processor, clip = adapter.processor, prompt.clips[0]
    text = processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
    inputs = processor(
        text=[text],
        videos=[clip.frames],
        audio=[clip.audio.numpy()],
        load_audio_from_video=True,
        audio_from_video_indices=[0],
        seconds_per_chunk=float(adapter.model.config.seconds_per_chunk),
        position_id_per_seconds=25,
        videos_kwargs={
            "do_sample_frames": False,
            "fps": clip.fps,
            "cap_pixels_per_frame": True,
            "size": {"shortest_edge": adapter.limits.min_pixels, "longest_edge": adapter.limits.max_pixels},
        },
        return_tensors="pt",
    )
    inputs["input_ids"] = torch.cat([inputs["input_ids"][0], completion_ids])[None]
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    logits = adapter.model(**inputs, use_audio_in_video=True).logits[0].float() / temperature
    scored = torch.log_softmax(logits, -1)[-len(completion_ids) - 1 : -1]
    return scored.gather(-1, completion_ids[:, None])[:, 0]
