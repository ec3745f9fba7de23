"""Benchmarks in the layout of the official ones, with invented questions about media that are made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from torchcodec.encoders import AudioEncoder

from avatar.data.encode import encode_mp4

RATE = 16_000
COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "yellow": (230, 220, 40)}


def beep(seconds: float, number: int) -> torch.Tensor:
    """[A]: a tone that tells clips apart."""
    time = torch.arange(round(seconds * RATE)) / RATE
    return 0.4 * torch.sin(2 * torch.pi * (300 + 50 * number) * time)


def film(number: int, seconds: float = 1.0) -> bytes:
    """A second of one colour, with a tone."""
    color = torch.tensor(list(COLORS.values())[number % 4], dtype=torch.uint8)
    frames = color[None, :, None, None].expand(round(8 * seconds), 3, 56, 56).contiguous()
    frames[:, :, :8, : 4 + 4 * (number % 12)] = 255  # no two alike
    return encode_mp4(frames, 8.0, beep(seconds, number))


def write_omnibench(root: Path, num: int = 12) -> Path:
    """``num`` questions, each about a picture and a sound of its own."""
    for kind in ("image", "audio"):
        (root / "mm_data" / kind).mkdir(parents=True, exist_ok=True)
    (root / "dataset").mkdir(exist_ok=True)
    lines = []
    for i in range(num):
        name = list(COLORS)[i % 4]
        Image.new("RGB", (84, 56 + 28 * (i % 2)), COLORS[name]).save(root / f"mm_data/image/{i}.png")
        AudioEncoder(beep(0.5 + 0.1 * (i % 3), i)[None], sample_rate=RATE).to_file(str(root / f"mm_data/audio/{i}.mp3"))
        options = [f"The wall is {color}." for color in COLORS]
        lines.append(
            {
                "task type": ["Count and Quantity", "Plot Inference"][i % 2],
                "audio type": ["speech", "sound event", "music"][i % 3],
                "question": f"What is the colour of wall number {i}?",
                "audio content": "a tone",
                "image content": "a wall",
                "audio_path": f"{i}.mp3",
                "image_path": f"{i}.png",
                "index": i,
                "answer": options[list(COLORS).index(name)],
                "options": options,
            }
        )
    (root / "dataset/batch-5_1142_20240817.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def write_video_holmes(root: Path, films: int = 4, questions: int = 3) -> Path:
    """``questions`` about each of so many films; question ids begin anew with each."""
    (root / "videos").mkdir(parents=True, exist_ok=True)
    records = []
    for i in range(films):
        (root / f"videos/film{i}.mp4").write_bytes(film(i))
        for k in range(questions):
            records.append(
                {
                    "video ID": f"film{i}",
                    "Question ID": k + 1,
                    "Question Type": ["SR", "IMC", "TCI"][k % 3],
                    "Question": f"Who did it, asked for the {k + 1}. time?",
                    "Options": {letter: f"Suspect {letter}" for letter in "ABCDEF"},
                    "Answer": "ABCDEF"[(i + k) % 6],
                    "Explanation": "No reason is given.",
                }
            )
    (root / "test_Video-Holmes.json").write_text(json.dumps(records))
    return root


def write_vsi_bench(root: Path, scenes: int = 4) -> Path:
    """A number and a choice about each of so many scenes."""
    lines = []
    for i in range(scenes):
        dataset = ["arkitscenes", "scannet"][i % 2]
        (root / dataset).mkdir(parents=True, exist_ok=True)
        (root / dataset / f"scene{i}.mp4").write_bytes(film(i))
        common = {"dataset": dataset, "scene_name": f"scene{i}"}
        asked = {"question": "How many chairs are there?", "ground_truth": str(2 + i), "options": None}
        lines.append({"id": 2 * i, **common, "question_type": "object_counting", **asked})
        options = ["A. left", "B. right", "C. back"]
        asked = {"question": "Where is the lamp?", "ground_truth": "ABC"[i % 3], "options": options}
        kind = f"object_rel_direction_{['easy', 'medium', 'hard'][i % 3]}"
        lines.append({"id": 2 * i + 1, **common, "question_type": kind, **asked})
    (root / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


WORLDS = {"omnibench": write_omnibench, "video_holmes": write_video_holmes, "vsi_bench": write_vsi_bench}
