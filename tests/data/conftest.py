"""Real micro-world clips, shards of them, and the tools to break both."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchcodec.encoders import Encoder

from avatar.data.media import encode_mp4
from avatar.data.micro import draw_split, render_frames, render_mp4
from avatar.data.schema import Record
from avatar.data.shards import write_shards

NUM_CLIPS, CLIPS_PER_SHARD = 5, 2  # 3 shards; 5 clips x 5 questions = 25 records


@pytest.fixture(autouse=True)
def _global_random_state_is_given_back():
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="session")
def clips():
    """[(key, scene, records)] of five clips."""
    return list(draw_split("train", NUM_CLIPS, seed=0))


@pytest.fixture(scope="session")
def samples(clips):
    """[(key, mp4, records)] of the same five."""
    return [(key, render_mp4(scene), records) for key, scene, records in clips]


@pytest.fixture(scope="session")
def shards(tmp_path_factory, samples):
    """A folder of three shards with these samples. Tests only read it."""
    folder = tmp_path_factory.mktemp("shards") / "train"
    write_shards(folder, samples, CLIPS_PER_SHARD)
    return folder


@pytest.fixture(scope="session")
def record():
    """A question without a clip; ``replace`` what matters to a test."""
    return Record(question="how many ?", answer="2", problem_type="number")


@pytest.fixture
def make_tar(tmp_path):
    """Write (name, bytes) members to ``tmp_path/FOLDER/NAME`` by plain tarfile, as any other tool would."""

    def make(members, folder="made", name="00000.tar") -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        with tarfile.open(tmp_path / folder / name, "w") as tar:
            for member, payload in members:
                info = tarfile.TarInfo(member)
                info.size = len(payload)
                tar.addfile(info, io.BytesIO(payload))
        return tmp_path / folder

    return make


@pytest.fixture(scope="session")
def silent_mp4(clips):
    """An MP4 with a picture and no audio track."""
    encoder, buffer = Encoder(), io.BytesIO()
    video = encoder.add_video(height=56, width=56, frame_rate=8, codec="libx264", pixel_format="yuv420p")
    with encoder.open_file_like(buffer, format="mp4"):
        video.add_frames(render_frames(clips[0][1]))
    return buffer.getvalue()


@pytest.fixture(scope="session")
def grey_mp4():
    """A factory of MP4s whose frame i is one grey, ``16 + step * i``, with a 1 kHz tone beside it."""

    def make(num_frames, fps, seconds_of_sound=None, sample_rate=16_000, step=6):
        seconds = num_frames / fps if seconds_of_sound is None else seconds_of_sound
        grey = 16 + step * torch.arange(num_frames)
        frames = grey[:, None, None, None].expand(num_frames, 3, 56, 56).to(torch.uint8).contiguous()
        t = torch.arange(round(seconds * sample_rate)) / sample_rate
        return encode_mp4(frames, fps, 0.5 * torch.sin(2 * torch.pi * 1000 * t), sample_rate)

    return make


@pytest.fixture(scope="session")
def faststart():
    """Move ``moov`` before ``mdat``, as files for the web have it; returns the file and where its packets end."""

    def numbers(atom, at):
        return [int.from_bytes(atom[i : i + 4], "big") for i in range(at + 4, at + 4 + 4 * number(atom, at), 4)]

    def number(atom, at):
        return int.from_bytes(atom[at : at + 4], "big")

    def move(mp4: bytes) -> tuple[bytes, list[int]]:
        atoms, at = {}, 0
        while at < len(mp4):
            atoms[mp4[at + 4 : at + 8]] = mp4[at : at + number(mp4, at)]
            at += number(mp4, at)
        moov, ends, at = bytearray(atoms[b"moov"]), [], 0
        for _ in range(2):  # picture and sound: the sizes of its packets (stsz), then where they begin (stco)
            sizes = numbers(moov, moov.index(b"stsz", at) + 12)
            at = moov.index(b"stco", at) + 8
            (start,) = numbers(moov, at)  # a clip this short has one chunk a track
            moov[at + 4 : at + 8] = (start + len(moov)).to_bytes(4, "big")
            ends += [start + len(moov) + sum(sizes[: i + 1]) for i in range(len(sizes))]
        rest = b"".join(atom for name, atom in atoms.items() if name not in (b"ftyp", b"moov"))
        return atoms[b"ftyp"] + bytes(moov) + rest, sorted(ends)

    return move


@pytest.fixture
def broken(make_tar, samples, silent_mp4):
    """Three good clips and five bad ones, one question each, bad between good: (folder, keys of the bad)."""
    good, mp4 = [s[1] for s in samples[:3]], samples[3][1]
    payloads = {
        "0-good": good[0],
        "1-absent": None,
        "2-text": b"this is no video\n" * 50,
        "3-good": good[1],
        "4-empty": b"",
        "5-cut": mp4[: len(mp4) // 2],
        "6-silent": silent_mp4,
        "7-good": good[2],
    }
    record = replace(samples[0][2][0], metadata={"kind": "beeps"})
    members = []
    for key, payload in payloads.items():
        members += [(f"{key}.mp4", payload)] if payload is not None else []
        members.append((f"{key}.json", replace(record, question=f"about {key} ?").to_json()))
    return make_tar(members, "broken"), [key for key in payloads if not key.endswith("good")]


@pytest.fixture
def hopeless(make_tar, samples):
    """A folder of six records whose clips are all text."""
    raw = samples[0][2][0].to_json()
    return make_tar([m for i in range(6) for m in ((f"c{i}.mp4", b"text"), (f"c{i}.json", raw))], "hopeless")
