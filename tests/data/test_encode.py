import torch
from torchcodec.decoders import AudioDecoder, VideoDecoder

from avatar.data.encode import encode_mp4
from avatar.data.micro import render_audio, render_frames


def test_equal_input_gives_equal_bytes(clips):
    scene = clips[0][1]
    first, second = (encode_mp4(render_frames(scene), 8, render_audio(scene)) for _ in range(2))
    assert first == second


def test_frames_and_sound_come_back_at_their_rates():
    levels = 16 + 20 * torch.arange(6)
    frames = levels[:, None, None, None].expand(6, 3, 56, 84).to(torch.uint8).contiguous()
    mp4 = encode_mp4(frames, 12.5, torch.zeros(24_000), sample_rate=48_000)
    video, sound = VideoDecoder(mp4), AudioDecoder(mp4)
    assert video.metadata.average_fps == 12.5
    torch.testing.assert_close(video.get_all_frames().data.float(), frames.float(), atol=3, rtol=0)
    assert sound.metadata.sample_rate == 48_000
    assert sound.metadata.num_channels == 1
    assert abs(sound.metadata.duration_seconds - 0.5) < 1e-3


def test_a_lower_rate_factor_is_closer_to_the_frames():
    frames = torch.randint(256, (4, 3, 56, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def error(crf):
        decoded = VideoDecoder(encode_mp4(frames, 8, torch.zeros(8_000), crf=crf)).get_all_frames().data
        return (decoded.float() - frames.float()).abs().mean()

    assert error(10) < error(40)
