"""A prompt, a completion and a scripted judge, for the tests of the judge and of its guards."""

import base64
import io
import json

import torch
from PIL import Image

from avatar.chat import ChatClient
from avatar.rewards import Judge
from avatar.rewards.judging.request import CRITERIA
from avatar.types import Clip, Completion, Prompt


def clip(num_frames=16, height=56, width=56, sound=True, key="c"):
    """Frame i is grey of 10 i, so that a JPEG tells which it was."""
    grey = (10 * torch.arange(num_frames)).clamp(max=255).to(torch.uint8)
    frames = grey[:, None, None, None].expand(num_frames, 3, height, width).contiguous() if num_frames else None
    return Clip(key, frames, 8.0, torch.zeros(100) if sound else None)


def prompt(*clips, caption="Two bells ring on the left.", question="Who rings?", gold="left: cyclist", **kwargs):
    messages = [
        {"role": "system", "content": "Think first."},
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]},
    ]
    return Prompt("p", messages, clips or (clip(),), gold, audio_caption=caption, **kwargs)


def written(answer="Left: cyclist", reasoning="I look around.", finished=True):
    text = f"<think>{reasoning}</think><answer>{answer}</answer>"
    return Completion(torch.tensor([1]), torch.zeros(1), text, finished)


def verdict(*scores):
    return json.dumps(dict(zip(CRITERIA, scores, strict=True)))


def client(server, **kwargs):
    return ChatClient(server.endpoint, "judge", **({"attempts": 2, "backoff": 0.0, "timeout": 5.0} | kwargs))


def judged(server, completions, prompts=None, group=None, client_args=None, **kwargs):
    judge = Judge(client(server, **(client_args or {})), **kwargs)
    group = torch.zeros(len(completions), dtype=torch.long) if group is None else torch.tensor(group)
    return judge, judge(prompts or [prompt()], completions, group)


def texts_of(request):
    return "".join(part["text"] for part in request["messages"][1]["content"] if part["type"] == "text")


def images_of(request):
    urls = [part["image_url"]["url"] for part in request["messages"][1]["content"] if part["type"] == "image_url"]
    raw = [base64.b64decode(url.removeprefix("data:image/jpeg;base64,")) for url in urls]
    return [Image.open(io.BytesIO(image)) for image in raw]


def candidate_of(request):
    quoted = texts_of(request).split("\n<<<CANDIDATE\n")[1].removesuffix("\nCANDIDATE>>>")
    assert "\n" not in quoted
    return json.loads(quoted)
