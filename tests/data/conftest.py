"""Real micro-world clips, shards of them, and the tools to break both."""

from __future__ import annotations

import io
import re
import tarfile
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchcodec.encoders import Encoder

from avatar.data.encode import encode_mp4
from avatar.data.micro import draw_split, render_frames, render_mp4
from avatar.data.schema import Record, parse_record
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
def streamed():
    """Read shards in one pass by webdataset, which knows nothing of our index: [(sample, mp4, records)]."""
    from webdataset.tariterators import group_by_keys, tar_file_iterator  # our import has made it secure before

    def records_of(sample):
        names = sorted(name for name in sample if name == "json" or name.endswith(".json"))
        return [parse_record(sample[name], name) for name in names]

    def stream(folder):
        samples = []
        for shard in sorted(Path(folder).glob("*.tar")):
            with shard.open("rb") as file:
                members = [{**member, "__url__": ""} for member in tar_file_iterator(file, skip_meta=None)]
            samples += group_by_keys(members)
        return [(sample["__key__"], sample.get("mp4", b""), records_of(sample)) for sample in samples]

    return stream


class _Handler(SimpleHTTPRequestHandler):
    """Python's own server, which sends whole files, with byte ranges and faults added."""

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append((self.path, wanted))
        if server.faults:
            return self._fail(server.faults.pop(0))
        if wanted is None or not server.ranges or not Path(self.translate_path(self.path)).is_file():
            return super().do_GET()
        whole = Path(self.translate_path(self.path)).read_bytes()
        start, end = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups())
        part = whole[start : end + 1 + server.surplus]
        self.send_response(206 if part else 416)
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(whole)}" if part else f"bytes */{len(whole)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        server.sent.append(len(part))
        return self.wfile.write(part)

    def _fail(self, fault):
        if fault != "cut":
            return self.send_error(fault)
        self.send_response(206)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        return self.wfile.write(b"half of it")

    def copyfile(self, source, outputfile):
        while block := source.read(2**16):
            self.server.sent.append(len(block))
            outputfile.write(block)

    def log_message(self, *args):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that hangs up early is what some tests are about


@pytest.fixture
def serve():
    """Serve a folder by HTTP; ``.url``, ``.requests`` [(path, Range)], ``.sent`` bytes, ``.faults`` to answer first."""
    servers = []

    def start(folder, ranges=True):
        server = _Server(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        server.ranges, server.requests, server.sent, server.faults, server.surplus = ranges, [], [], [], 0
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


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
