"""Real clips, sounds and pictures in a folder, ways to write sources about them, and a way to read a pack back."""

from __future__ import annotations

import io
import json
import shutil
import wave
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchcodec.encoders import Encoder

from avatar.data.encode import encode_mp4
from avatar.data.index import ShardIndex
from avatar.data.media import decode_medium
from avatar.data.pack import pack
from avatar.data.rules import ClipRule
from avatar.data.schema import parse_record

RATE = 16_000


def grey_frames(num, step):
    grey = 40 + step * torch.arange(num)
    return grey[:, None, None, None].expand(num, 3, 56, 56).to(torch.uint8).contiguous()


def tone(hz, seconds):
    return 0.5 * torch.sin(2 * torch.pi * hz * torch.arange(round(seconds * RATE)) / RATE)


def clip_bytes(step=5, hz=440):
    """One second: eight grey frames, each ``step`` brighter than the last, and a tone."""
    return encode_mp4(grey_frames(8, step), 8, tone(hz, 1))


@pytest.fixture(scope="session")
def media(tmp_path_factory) -> Path:
    """clips/a.mp4, b.mp4, c.mp4 (1 s, with sound), silent.mp4, pictures/red.png, blue.jpg, sounds/beep.wav (1 s)."""
    root = tmp_path_factory.mktemp("media")
    for folder in ("clips", "pictures", "sounds"):
        (root / folder).mkdir()
    for i, name in enumerate("abc"):
        (root / "clips" / f"{name}.mp4").write_bytes(clip_bytes(5 + i, 440 * (i + 1)))
    encoder, buffer = Encoder(), io.BytesIO()
    video = encoder.add_video(height=56, width=56, frame_rate=8, codec="libx264", pixel_format="yuv420p")
    with encoder.open_file_like(buffer, format="mp4"):
        video.add_frames(grey_frames(8, 9))
    (root / "clips" / "silent.mp4").write_bytes(buffer.getvalue())
    Image.new("RGB", (64, 48), (200, 20, 20)).save(root / "pictures" / "red.png")
    Image.new("RGB", (64, 48), (20, 20, 200)).save(root / "pictures" / "blue.jpg")
    with wave.open(str(root / "sounds" / "beep.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((32767 * tone(880, 1)).to(torch.int16).numpy().tobytes())
    return root


@pytest.fixture
def folder(tmp_path, media) -> Path:
    """A folder of its own with copies of the media."""
    shutil.copytree(media, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def write(folder):
    """Write rows to ``data/NAME``: one a line, or as an array where the name ends in .json."""

    def write(rows, name="train.jsonl") -> Path:
        text = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name).write_text(text)
        return folder / name

    return write


@pytest.fixture
def packed(tmp_path):
    """Pack a source to ``tmp_path/out`` with one worker; returns (exit status, what is in the folder)."""

    def packed(source, out="out", **options):
        status = pack(str(source), out=str(tmp_path / out), **{"jobs": 1, **options})
        return status, Pack(tmp_path / out)

    return packed


class Pack:
    """A pack, read back by the ways that training uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.quarantine = [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]

    @property
    def keys(self):
        index = ShardIndex(self.folder)
        return [index[i].key for i in range(len(index))]

    def entry(self, key):
        return ShardIndex(self.folder).by_key(key)

    def record(self, key):
        return parse_record(self.entry(key).record.read(), key)

    def payloads(self, key):
        """The files that a record shows, in order."""
        entry = self.entry(key)
        return [entry.members[medium.name].read() for medium in self.record(key).media]

    def clips(self, key):
        record, rule = self.record(key), ClipRule()
        shown = zip(record.media, self.payloads(key), strict=True)
        return [decode_medium(raw, medium, record.use_audio_in_video, rule, key, key) for medium, raw in shown]

    @property
    def causes(self):
        """{origin: cause} of what is not in it."""
        return {entry["origin"]: entry["cause"] for entry in self.quarantine}

    @property
    def shards(self):
        """{name: bytes}."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.glob("*.tar"))}
