import struct

import pytest
from data.media_files import film, gif, good, greys, nested, noise_image, patched, picture, tone, wav

from avatar.data.containers import film_format, is_cut_short, is_playlist, most_samples, still_format


def whole(container):
    return film(greys(8), 8, container=container)


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "webm-like", "avi", "wav"])
def test_a_whole_file_is_not_cut_short_and_any_beginning_of_it_is(container):
    payload = wav(tone(1)) if container == "wav" else whole("matroska" if container == "webm-like" else container)
    assert not is_cut_short(payload)
    assert not is_cut_short(payload + b"\0" * 7)  # what lies behind is no loss
    least = 48 if container in ("mp4", "mov") else 64  # of less nothing can be said
    for end in [*range(least, len(payload) - 1, max(1, len(payload) // 40)), len(payload) - 2]:
        assert is_cut_short(payload[:end]), end


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF024])
def test_a_wav_from_a_pipe_does_not_know_its_size(size):
    payload = wav(tone(0.1))
    assert not is_cut_short(payload[:4] + size.to_bytes(4, "little") + payload[8:])


def test_a_matroska_from_a_live_recording_does_not_know_its_size():
    payload = whole("matroska")
    at = payload.index(b"\x18\x53\x80\x67") + 4
    assert not is_cut_short(payload[:at] + b"\x01" + b"\xff" * 7 + payload[at + 8 : -100])


@pytest.mark.parametrize("payload", [b"", b"\0", b"text " * 99, bytes(99), b"\x1a\x45\xdf\xa3", b"RIFF", nested(3000)])
def test_what_is_no_container_has_an_answer_too(payload):
    assert is_cut_short(payload) in (True, False)
    assert most_samples(payload) == 0


def test_a_long_box_size_is_read():
    long = struct.pack(">I4sQ", 1, b"mdat", 16 + 100)
    assert not is_cut_short(long + bytes(100))
    assert is_cut_short(long + bytes(99))


def test_claims_of_all_tracks_and_fragments_are_counted():
    assert most_samples(good()) == len(range(0, 32_000, 1024)) + 1  # blocks of AAC, one more for its delay; 16 frames
    assert most_samples(patched(good(), b"stsz", 8, (12_345).to_bytes(4, "big"))) == 12_345
    trun = struct.pack(">I4sII", 16, b"trun", 0, 777)
    traf = struct.pack(">I4s", 8 + len(trun), b"traf") + trun
    assert most_samples(struct.pack(">I4s", 8 + len(traf), b"moof") + traf) == 777


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_stills_are_known_by_their_first_bytes(kind):
    assert still_format(picture(kind)) == kind
    assert film_format(picture(kind)) is None


def test_films_are_known_by_their_first_bytes_and_a_gif_may_be_either():
    assert [film_format(whole(c)) for c in ("mp4", "mov", "matroska", "avi")] == [
        "MP4",
        "MP4",
        "Matroska or WebM",
        "AVI",
    ]
    for payload in (whole("mp4"), whole("avi"), gif(2), wav(tone(1))):
        assert still_format(payload) is None
    assert film_format(gif(2)) is film_format(noise_image("PNG")) is film_format(b"\0\0\0\x18ftypavif") is None


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n \t"])
def test_playlists_are_known_also_behind_white_space(start):
    assert is_playlist(start + b"#EXTM3U\n")
    assert is_playlist(start + b"ffconcat version 1.0\n")
    assert not is_playlist(start + b"#EXT")
