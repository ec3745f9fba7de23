import socket
import threading
from random import Random

import pytest
import torch
from data.media_files import film, good, greys, mute, noise_image, picture, timed, tone, turned, turned_jpeg, wav
from PIL import ImageFile
from torchcodec.decoders import AudioDecoder

from avatar.data import media
from avatar.data.media import MediaInfo, decode_medium, probe
from avatar.data.micro import render_audio, render_frames
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium
from avatar.errors import DataError
from avatar.types import Clip

WHERE = "shards/00000.tar: clip-7.mp4"
SMALL = {"min_pixels": 28 * 28}  # frames of 56 x 56 stay as they are


def decode(payload, max_frames=16, use_audio=True, start=None, end=None, **rule):
    return decode_medium(
        payload, Medium("video", "mp4", start, end), use_audio, ClipRule(max_frames, **{**SMALL, **rule}), WHERE, "key"
    )


def numbers(clip):
    """Of frames that are grey, as grey_mp4 makes them."""
    return ((clip.frames.float().mean(dim=(1, 2, 3)) - 16) / 6).round().int().tolist()


def test_the_same_file_gives_the_same_clip_bit_for_bit(samples):
    a, b = (decode(samples[0][1]) for _ in range(2))
    assert torch.equal(a.frames, b.frames)
    assert torch.equal(a.audio, b.audio)
    assert torch.equal(a.times, b.times)


def test_decoded_frames_are_the_drawn_ones_in_rgb(clips, samples):
    drawn = render_frames(clips[0][1]).float()
    decoded = decode(samples[0][1]).frames.float()
    # Noise of deviation 6 is mostly lost in compression: mean |noise| = 6 * sqrt(2 / pi) = 4.8 grey levels.
    assert (decoded - drawn).abs().mean() < 7
    vivid = (drawn.amax(1) - drawn.amin(1) > 100)[:, None].expand_as(drawn)  # the object where it is bright
    assert (decoded - drawn)[vivid].abs().mean() < 30
    assert (decoded - drawn.roll(1, dims=1))[vivid].abs().mean() > 90  # had the channels another order


def test_decoded_sound_is_the_drawn_one_without_delay(clips, samples):
    drawn, decoded = render_audio(clips[0][1]), decode(samples[0][1]).audio
    assert torch.corrcoef(torch.stack([drawn, decoded]))[0, 1] > 0.95  # half a period late at 400 Hz would be < 0


def test_the_padding_of_aac_is_cut_off(samples):
    for _, mp4, _ in samples:
        assert AudioDecoder(mp4, sample_rate=16_000, num_channels=1).get_all_samples().data.shape[1] > 16_000
        assert decode(mp4).audio.shape == (16_000,)


@pytest.mark.parametrize(("num_frames", "fps"), [(8, 8), (10, 25), (30, 10), (7, 4), (9, 30)])
@pytest.mark.parametrize("max_frames", [2, 16])
def test_sound_lasts_exactly_as_long_as_the_picture_however_many_frames_are_taken(
    grey_mp4, num_frames, fps, max_frames
):
    clip = decode(grey_mp4(num_frames, fps), max_frames)
    assert len(clip.audio) == round(num_frames / fps * 16_000)


def test_sound_shorter_than_the_picture_is_not_padded_to_it(grey_mp4):
    clip = decode(grey_mp4(8, 8, seconds_of_sound=0.5))
    assert 8_000 <= len(clip.audio) <= 8_000 + 1_024  # at most one AAC block more, far from the 16,000 of the picture


def test_a_short_video_gives_all_its_frames_at_its_own_rate(grey_mp4):
    clip = decode(grey_mp4(10, 5))
    assert numbers(clip) == list(range(10))
    assert clip.fps == pytest.approx(5)


@pytest.mark.parametrize(
    ("num_frames", "max_frames", "expected"),
    [
        (33, 3, [0, 32]),  # 3 is odd, so 2
        (33, 9, [0, 5, 9, 14, 18, 23, 27, 32]),  # 8 frames, 32 / 7 = 4.57 apart
        (9, 16, [0, 1, 2, 3, 5, 6, 7, 8]),  # all 9, cut to 8
        (33, 1, [0]),
        (1, 16, [0]),
    ],
)
def test_frames_are_those_that_the_rule_picks(grey_mp4, num_frames, max_frames, expected):
    assert numbers(decode(grey_mp4(num_frames, 8), max_frames)) == expected


@pytest.mark.parametrize("max_frames", [4, 8, 16])
def test_fps_is_the_spacing_of_the_frames_that_were_taken(grey_mp4, max_frames):
    clip = decode(grey_mp4(32, 8), max_frames)
    assert len(clip.frames) == max_frames
    # Of 32 frames at 8 a second the first is taken at 0 s and the last at 31 / 8 s, with F - 1 steps between.
    assert (len(clip.frames) - 1) / clip.fps == pytest.approx(31 / 8)


@pytest.mark.parametrize(("max_frames", "fps"), [(32, 8.0), (64, 8.0), (1, 0.25)])
def test_fps_is_that_of_the_video_if_all_frames_are_taken_and_one_a_clip_if_one_is(grey_mp4, max_frames, fps):
    assert decode(grey_mp4(32, 8), max_frames).fps == pytest.approx(fps)


def test_sound_is_resampled_and_not_merely_relabelled(grey_mp4):
    clip = decode(grey_mp4(8, 8, sample_rate=44_100))
    assert clip.audio.shape == (16_000,)
    # One second: bin k of the spectrum is k Hz, and the tone was 1,000 Hz.
    assert abs(int(torch.fft.rfft(clip.audio).abs().argmax()) - 1000) <= 2


def test_without_sound_only_the_sound_is_missing(samples):
    loud, mute = (decode(samples[0][1], use_audio=use) for use in (True, False))
    assert mute.audio is None
    assert torch.equal(mute.frames, loud.frames)


def test_a_missing_audio_track_is_an_error_with_a_way_out_unless_no_sound_was_asked_for(silent_mp4):
    with pytest.raises(DataError, match=r"clip-7.*no audio track.*use_audio_in_video: true.*Set it to false"):
        decode(silent_mp4)
    assert decode(silent_mp4, use_audio=False).frames.shape == (8, 3, 56, 56)


def test_a_film_may_be_silent_where_the_rule_says_so(silent_mp4):
    clip = decode(silent_mp4, silent_videos=True)
    assert (clip.frames.shape, clip.audio, clip.notes) == ((8, 3, 56, 56), None, ("no sound track",))
    assert decode(silent_mp4, use_audio=False, silent_videos=True).notes == ()  # nobody asked for it
    rule = ClipRule(silent_videos=True)
    for medium in (Medium("audio", "mp4"), Medium("audio", "mp4", 0.25, 0.5)):
        nothing = decode_medium(silent_mp4, medium, True, rule, WHERE, "key")
        assert (nothing.key, nothing.frames, nothing.audio, nothing.notes) == ("key", None, None, ("no sound track",))


def test_a_film_with_a_sound_track_is_the_same_whether_films_may_be_silent(samples):
    for make in (
        decode,
        lambda mp4, **rule: decode_medium(mp4, Medium("audio", "mp4"), True, ClipRule(**rule), "", ""),
    ):
        usual, lenient = make(samples[0][1]), make(samples[0][1], silent_videos=True, cut_audio=True)
        assert torch.equal(usual.audio, lenient.audio)
        assert usual.notes == lenient.notes == ()


@pytest.mark.parametrize("payload", [picture(), picture("JPEG"), b"text\n" * 99, b"", good()[:2000]])
def test_what_is_no_whole_film_is_not_taken_for_a_silent_one(payload):
    with pytest.raises(DataError):
        decode_medium(payload, Medium("audio", "mp4"), True, ClipRule(silent_videos=True), WHERE, "key")


@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_mp4_is_refused(samples, tenths):
    mp4 = samples[0][1]
    with pytest.raises(DataError, match="clip-7"):
        decode(mp4[: len(mp4) * tenths // 10])


def test_an_mp4_with_its_index_in_front_gives_the_same_clip(samples, faststart):
    mp4 = samples[0][1]
    moved, ends = faststart(mp4)
    assert ends[-1] == len(moved) == len(mp4)
    a, b = decode(mp4), decode(moved)
    assert torch.equal(a.frames, b.frames)
    assert torch.equal(a.audio, b.audio)


def cut_short(mp4, ends):
    """(end, frames, fps, audio samples) of each cut of ``mp4`` that is taken for a clip."""
    taken = []
    for end in ends:
        try:
            clip = decode(mp4[:end])
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
    assert len(decode(bytes(trimmed), use_audio=False).frames) == 4


@pytest.mark.parametrize("payload", [b"", b"text\n" * 99, b"\0\0\0\x18ftypmp42" + bytes(8)])
def test_the_reason_gives_a_way_out_and_no_path_of_torchcodec(payload):
    with pytest.raises(DataError, match=r"Replace or remove it, then write the shard again$") as error:
        decode(payload)
    assert ".cpp" not in str(error.value)


@pytest.mark.parametrize(
    "payload", [b"", b"\0", b"not a video\n" * 1000, bytes(5000), b"\x89PNG\r\n\x1a\n", b"\0\0\0\x18ftypmp42"]
)
def test_what_is_no_video_is_refused_by_name(payload):
    with pytest.raises(DataError, match="clip-7"):
        decode(payload)


@pytest.mark.timeout(60)
def test_a_garbled_file_gives_a_clip_or_a_data_error_and_nothing_else(samples):
    rng, outcomes = Random(0), set()
    for _ in range(150):
        garbled = bytearray(samples[0][1])
        # moov, the last 1.5 KB, decides what a decoder believes.
        garbled[rng.randrange(len(garbled) - 1500, len(garbled))] = rng.choice([0, 255, rng.randrange(256)])
        try:
            outcomes.add(type(decode(bytes(garbled))))
        except DataError:
            outcomes.add(DataError)
    assert outcomes == {Clip, DataError}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("known", [True, False], ids=["known as such", "not known as such"])
def test_a_playlist_posing_as_a_clip_opens_no_file_and_no_connection(samples, tmp_path, monkeypatch, known):
    if not known:  # what is in the way then is torchcodec, which has FFmpeg open nothing by itself
        monkeypatch.setattr(media, "is_playlist", lambda payload: False)
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
                with pytest.raises(DataError) as error:
                    decode(playlist.encode(), use_audio=False)
                assert (error.value.cause == "not allowed") == known
        with socket.create_connection(server.getsockname(), timeout=5) as probe:
            probe.recv(1)  # the server does answer, and all visits before this one are recorded
    finally:
        server.close()
    assert len(visits) == 1


def test_a_clip_bears_its_key_and_is_what_its_record_calls_it(samples):
    for kind, payload in (("video", samples[0][1]), ("audio", samples[0][1]), ("image", picture())):
        clip = decode_medium(payload, Medium(kind, "x"), True, ClipRule(), WHERE, "the key")
        assert (clip.key, clip.kind) == ("the key", kind)
    assert clip.times is None
    assert clip.fps == 0


@pytest.mark.parametrize(
    ("kind", "make", "message"),
    [
        ("video", picture, r'it is an image \(PNG\) and no video; its record says \{"image": ...\}'),
        ("image", good, r'it is a video \(MP4\) and no image; its record says \{"video": ...\}'),
        ("video", lambda: wav(tone(1)), r'has no picture. If it is to be heard only, its record says \{"audio": ...\}'),
        ("audio", picture, r"has no audio track$"),
    ],
)
def test_a_file_of_another_kind_says_what_its_record_should_say(kind, make, message):
    with pytest.raises(DataError, match=f"^{WHERE}: (the file|it) .*{message.removeprefix('it is ')}"):
        decode_medium(make(), Medium(kind, "x"), True, ClipRule(), WHERE, "key")


def test_running_out_of_memory_is_too_large_and_not_broken(monkeypatch):
    def no_memory(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(media, "read_picture", no_memory)
    with pytest.raises(DataError, match="takes more memory than there is") as error:
        decode(good())
    assert error.value.cause == "too large"


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_header_that_makes_no_sense_says_so_and_not_that_a_track_is_missing(kind):
    with pytest.raises(DataError, match="its header holds what are no numbers") as error:
        decode_medium(timed(good(), [(16, 0.0)]), Medium(kind, "x"), True, ClipRule(), WHERE, "key")
    assert error.value.cause == "cannot be decoded"


@pytest.mark.parametrize(
    ("kind", "make", "expected"),
    [
        ("video", good, MediaInfo(True, True, 2.0, 2.0, 56, 56, 8.0, 16, 16_000, 1)),
        ("audio", good, MediaInfo(True, True, 2.0, 2.0, 56, 56, 8.0, 16, 16_000, 1)),
        ("video", mute, MediaInfo(True, False, 2.0, 0.0, 56, 56, 8.0, 16)),
        ("audio", lambda: wav(tone(1.5, 44_100, 2), 44_100), MediaInfo(False, True, 1.5, 1.5, 0, 0, 0.0, 0, 44_100, 2)),
        ("video", lambda: turned(film(greys(8, 56, 112), 8)), MediaInfo(True, False, 1.0, 0.0, 56, 112, 8.0, 8)),
        ("image", picture, MediaInfo(width=56, height=84, frames=1)),
        ("image", turned_jpeg, MediaInfo(width=84, height=56, frames=1)),
    ],
    ids=["film", "film as sound", "mute film", "sound", "turned film", "image", "turned image"],
)
def test_a_header_says_what_is_in_the_file(kind, make, expected):
    assert probe(make(), kind) == expected


def test_a_header_is_read_without_decoding(monkeypatch):
    mp4, png = good(), noise_image("PNG")
    for name in ("read_picture", "read_sound", "read_still"):
        monkeypatch.setattr(media, name, None)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert probe(mp4, "video").frames == 16
    assert probe(png, "image").width == 56


def test_a_header_that_is_broken_names_the_file():
    with pytest.raises(DataError, match=r"^shard 3: a.mp4: the file is cut short"):
        probe(good()[:-100], "video", "shard 3: a.mp4")
