import socket
import threading
from random import Random

import pytest
import torch
from torchcodec.decoders import AudioDecoder

from avatar.data.encode import encode_mp4
from avatar.data.media import decode_clip
from avatar.data.micro import render_audio, render_frames
from avatar.errors import DataError
from avatar.types import Clip

KEY = "data/clip-7.mp4"


def greys(clip):
    return clip.frames.float().mean(dim=(1, 2, 3))


def test_equal_input_gives_equal_bytes_and_equal_decoded_tensors(clips):
    scene = clips[0][1]
    first, second = (encode_mp4(render_frames(scene), 8, render_audio(scene)) for _ in range(2))
    assert first == second
    a, b = decode_clip(first, KEY), decode_clip(second, KEY)
    assert torch.equal(a.frames, b.frames)
    assert torch.equal(a.audio, b.audio)


def test_decoded_frames_are_the_drawn_ones_in_rgb(clips, samples):
    drawn = render_frames(clips[0][1]).float()
    decoded = decode_clip(samples[0][1], KEY).frames.float()
    # Noise of deviation 6 is mostly lost in compression: mean |noise| = 6 * sqrt(2 / pi) = 4.8 grey levels.
    assert (decoded - drawn).abs().mean() < 7
    vivid = (drawn.amax(1) - drawn.amin(1) > 100)[:, None].expand_as(drawn)  # the object where it is bright
    assert (decoded - drawn)[vivid].abs().mean() < 30
    assert (decoded - drawn.roll(1, dims=1))[vivid].abs().mean() > 90  # had the channels another order


def test_decoded_sound_is_the_drawn_one_without_delay(clips, samples):
    drawn, decoded = render_audio(clips[0][1]), decode_clip(samples[0][1], KEY).audio
    assert torch.corrcoef(torch.stack([drawn, decoded]))[0, 1] > 0.95  # half a period late at 400 Hz would be < 0


def test_the_padding_of_aac_is_cut_off(samples):
    for _, mp4, _ in samples:
        assert AudioDecoder(mp4, sample_rate=16_000, num_channels=1).get_all_samples().data.shape[1] > 16_000
        assert decode_clip(mp4, KEY).audio.shape == (16_000,)


@pytest.mark.parametrize(("num_frames", "fps"), [(8, 8), (10, 25), (30, 10), (7, 4), (9, 30)])
@pytest.mark.parametrize("max_frames", [2, 16])
def test_sound_lasts_exactly_as_long_as_the_picture_however_many_frames_are_taken(
    grey_mp4, num_frames, fps, max_frames
):
    clip = decode_clip(grey_mp4(num_frames, fps), KEY, max_frames)
    assert len(clip.audio) == round(num_frames / fps * 16_000)


def test_sound_shorter_than_the_picture_is_not_padded_to_it(grey_mp4):
    clip = decode_clip(grey_mp4(8, 8, seconds_of_sound=0.5), KEY)
    assert 8_000 <= len(clip.audio) <= 8_000 + 1_024  # at most one AAC block more, far from the 16,000 of the picture


def test_a_short_video_gives_all_its_frames_at_its_own_rate(grey_mp4):
    clip = decode_clip(grey_mp4(10, 5), KEY, max_frames=16)
    torch.testing.assert_close(greys(clip), 16 + 6.0 * torch.arange(10), atol=2.5, rtol=0)
    assert clip.fps == pytest.approx(5)


@pytest.mark.parametrize(
    ("num_frames", "max_frames", "expected"),
    [
        (33, 3, [0, 32]),  # 3 is odd, so 2
        (33, 5, [0, 11, 21, 32]),  # 4 frames, 32 / 3 = 10.67 apart
        (33, 9, [0, 5, 9, 14, 18, 23, 27, 32]),  # 8 frames, 32 / 7 = 4.57 apart
        (9, 16, [0, 1, 2, 3, 5, 6, 7, 8]),  # all 9, cut to 8
        (8, 8, list(range(8))),
        (33, 1, [0]),
        (1, 16, [0]),
    ],
)
def test_frames_are_spread_evenly_from_the_first_to_the_last_and_even_in_number(
    grey_mp4, num_frames, max_frames, expected
):
    clip = decode_clip(grey_mp4(num_frames, 8), KEY, max_frames)
    assert ((greys(clip) - 16) / 6).round().int().tolist() == expected


@pytest.mark.parametrize("max_frames", [4, 8, 16])
def test_fps_is_the_spacing_of_the_frames_that_were_taken(grey_mp4, max_frames):
    clip = decode_clip(grey_mp4(32, 8), KEY, max_frames)
    assert len(clip.frames) == max_frames
    # Of 32 frames at 8 a second the first is taken at 0 s and the last at 31 / 8 s, with F - 1 steps between.
    assert (len(clip.frames) - 1) / clip.fps == pytest.approx(31 / 8)


@pytest.mark.parametrize(("max_frames", "fps"), [(32, 8.0), (64, 8.0), (1, 0.25)])
def test_fps_is_that_of_the_video_if_all_frames_are_taken_and_one_a_clip_if_one_is(grey_mp4, max_frames, fps):
    assert decode_clip(grey_mp4(32, 8), KEY, max_frames).fps == pytest.approx(fps)


def test_sound_is_resampled_and_not_merely_relabelled(grey_mp4):
    clip = decode_clip(grey_mp4(8, 8, sample_rate=44_100), KEY)
    assert clip.audio.shape == (16_000,)
    # One second: bin k of the spectrum is k Hz, and the tone was 1,000 Hz.
    assert abs(int(torch.fft.rfft(clip.audio).abs().argmax()) - 1000) <= 2


def test_without_sound_only_the_sound_is_missing(samples):
    loud, mute = (decode_clip(samples[0][1], KEY, use_audio=use) for use in (True, False))
    assert mute.audio is None
    assert torch.equal(mute.frames, loud.frames)


def test_a_missing_audio_track_is_an_error_with_a_way_out_unless_no_sound_was_asked_for(silent_mp4):
    with pytest.raises(DataError, match=r"clip-7.*no audio track.*use_audio_in_video: true.*Set it to false"):
        decode_clip(silent_mp4, KEY)
    assert decode_clip(silent_mp4, KEY, use_audio=False).frames.shape == (8, 3, 56, 56)


@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_mp4_is_refused(samples, tenths):
    mp4 = samples[0][1]
    with pytest.raises(DataError, match="clip-7"):
        decode_clip(mp4[: len(mp4) * tenths // 10], KEY)


def test_an_mp4_with_its_index_in_front_gives_the_same_clip(samples, faststart):
    mp4 = samples[0][1]
    moved, ends = faststart(mp4)
    assert ends[-1] == len(moved) == len(mp4)
    a, b = decode_clip(mp4, KEY), decode_clip(moved, KEY)
    assert torch.equal(a.frames, b.frames)
    assert torch.equal(a.audio, b.audio)


def cut_short(mp4, ends):
    """(end, frames, fps, audio samples) of each cut of ``mp4`` that is taken for a clip."""
    taken = []
    for end in ends:
        try:
            clip = decode_clip(mp4[:end], KEY)
        except DataError:
            continue
        taken.append((end, len(clip.frames), clip.fps, len(clip.audio)))
    return taken


def test_an_mp4_with_its_index_in_front_is_refused_when_cut_at_a_tenth(samples, faststart):
    moved, _ = faststart(samples[0][1])
    assert cut_short(moved, [len(moved) * i // 10 for i in range(10)]) == []


def test_an_mp4_with_its_index_in_front_is_refused_when_cut_after_a_whole_packet(samples, faststart):
    moved, ends = faststart(samples[0][1])
    assert cut_short(moved, ends[:-1]) == []


def test_a_clip_trimmed_by_an_edit_list_is_whole(samples):
    trimmed = bytearray(samples[0][1])
    elst, mdhd = trimmed.index(b"elst") + 16, trimmed.index(b"mdhd") + 16
    start, second = (int.from_bytes(trimmed[i : i + 4], "big") for i in (elst, mdhd))
    trimmed[elst : elst + 4] = (start + second * 3 // 8).to_bytes(4, "big")  # begin three of eight frames later
    # The index still lists 8 frames, and 5 are shown, cut to 4.
    assert len(decode_clip(bytes(trimmed), KEY, use_audio=False).frames) == 4


@pytest.mark.parametrize("payload", [b"", b"text\n" * 99, b"\0\0\0\x18ftypmp42" + bytes(8)])
def test_the_reason_gives_a_way_out_and_no_path_of_torchcodec(payload):
    with pytest.raises(DataError, match=r"Replace or remove it, then write the shard again$") as error:
        decode_clip(payload, KEY)
    assert ".cpp" not in str(error.value)


@pytest.mark.parametrize(
    "payload", [b"", b"\0", b"not a video\n" * 1000, bytes(5000), b"\x89PNG\r\n\x1a\n", b"\0\0\0\x18ftypmp42"]
)
def test_what_is_no_video_is_refused_by_name(payload):
    with pytest.raises(DataError, match="clip-7"):
        decode_clip(payload, KEY)


@pytest.mark.timeout(60)
def test_a_garbled_file_gives_a_clip_or_a_data_error_and_nothing_else(samples):
    rng, outcomes = Random(0), set()
    for _ in range(150):
        garbled = bytearray(samples[0][1])
        # moov, the last 1.5 KB, decides what a decoder believes.
        garbled[rng.randrange(len(garbled) - 1500, len(garbled))] = rng.choice([0, 255, rng.randrange(256)])
        try:
            outcomes.add(type(decode_clip(bytes(garbled), KEY)))
        except DataError:
            outcomes.add(DataError)
    assert outcomes == {Clip, DataError}


@pytest.mark.timeout(60)
def test_a_playlist_posing_as_a_clip_opens_no_file_and_no_connection(samples, tmp_path, monkeypatch):
    (tmp_path / "secret.mp4").write_bytes(samples[0][1])
    monkeypatch.chdir(tmp_path)
    server, visits = socket.create_server(("127.0.0.1", 0)), []

    def listen():
        while True:
            try:
                connection, address = server.accept()
            except OSError:
                return
            visits.append(address)
            connection.close()

    threading.Thread(target=listen, daemon=True).start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}/x.mp4"
    try:
        for target in (url, f"{tmp_path}/secret.mp4", "secret.mp4"):
            hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n"
            concat = f"ffconcat version 1.0\nfile '{target}'\n"
            for playlist in (hls, concat):
                with pytest.raises(DataError):
                    decode_clip(playlist.encode(), KEY, use_audio=False)
        with socket.create_connection(server.getsockname(), timeout=5) as probe:
            probe.recv(1)  # the server does answer, and all visits before this one are recorded
    finally:
        server.close()
    assert len(visits) == 1
