"""A real judge for tests: a vision-language model of 350,000 weights, taught by heart, behind `transformers serve`.

    write_vlm(folder, [(messages, '{"score": 1}'), ...])
    with serve_vlm(folder) as served:
        ...  # served.endpoint, served.model; served.stop() takes it away

The model is a Qwen2.5-VL with random weights, trained for seconds on just those chats; to any other it says something
of the same form. What it is told goes the whole way: pictures as data URLs, chat template, processor, greedy decoding.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

MODEL = "tiny/judge"
REVISION = "0" * 40
SPECIAL = {
    "pad_token": "<|endoftext|>",
    "eos_token": "<|im_end|>",
    "bos_token": "<|im_start|>",
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass
class Served:
    """A running server.

    Attributes:
        endpoint: Up to ``/v1``.
        model: What a request must name.
        log: Where the server writes.
    """

    endpoint: str
    model: str
    log: Path
    process: subprocess.Popen

    @property
    def num_requests(self) -> int:
        """Chat requests that have reached it."""
        return self.log.read_text().count('"POST /v1/chat/completions')

    def stop(self) -> None:
        """From here on nothing answers; twice is fine."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def write_vlm(folder: Path, pairs: Sequence[tuple[list, str]], seconds: float = 240.0, seed: int = 0) -> Path:
    """Teach a tiny model to answer each chat with its text, and write it as a Hugging Face cache folder.

    Args:
        folder: The cache; `transformers serve` finds ``tiny/judge`` there, and lists it.
        pairs: Chats in the messages of OpenAI, pictures as data URLs, and the answer to each.
        seconds: The most that teaching may take.
        seed: Of the weights.
    """
    processor = _processor(pairs)
    batch = _batch(processor, pairs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(processor.tokenizer)
        _teach(model, batch, time.monotonic() + seconds)
    snapshot = folder / f"models--{MODEL.replace('/', '--')}" / "snapshots" / REVISION
    model.save_pretrained(snapshot)
    processor.save_pretrained(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(REVISION)
    return folder


@contextmanager
def serve_vlm(folder: Path, patience: float = 120.0) -> Iterator[Served]:
    """`transformers serve` with the model of ``folder`` on a free loopback port, on one thread, killed at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "transformers", "serve", MODEL, "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder), "OMP_NUM_THREADS": "1"}
    log = folder / f"serve-{port}.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env, start_new_session=True)
    served = Served(f"http://127.0.0.1:{port}/v1", MODEL, log, process)
    try:
        _wait(served, time.monotonic() + patience)
        yield served
    finally:
        served.stop()


def _wait(served: Served, until: float) -> None:
    while time.monotonic() < until and served.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{served.endpoint}/models", timeout=5):  # noqa: S310 - loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"transformers serve did not come up:\n{served.log.read_text()[-2000:]}")


def _processor(pairs: Sequence[tuple[list, str]]):
    from transformers import Qwen2_5_VLProcessor, Qwen2TokenizerFast, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [part["text"] for messages, _ in pairs for m in messages for part in _parts(m) if part["type"] == "text"]
    bpe.train_from_iterator(texts, trainer)
    own = ("pad_token", "eos_token", "bos_token")
    tokenizer = Qwen2TokenizerFast(
        tokenizer_object=bpe,
        unk_token=None,
        extra_special_tokens={k: v for k, v in SPECIAL.items() if k not in own},
        **{k: SPECIAL[k] for k in own},
    )
    # An answer is a dozen tokens: its numbers, and what stands between them in one piece each.
    pieces = {piece for _, answer in pairs for piece in re.split(r"(\d+(?:\.\d+)?)", answer) if piece}
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in sorted(pieces)])
    vision = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    size = {"shortest_edge": 28 * 28, "longest_edge": 64 * 28 * 28}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**vision, size=size),
        video_processor=Qwen2VLVideoProcessor(**vision, size=size),
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
    )


def _parts(message: dict) -> list:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _model(tokenizer, hidden: int = 64):
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    token = {name: tokenizer.convert_tokens_to_ids(text) for name, text in SPECIAL.items()}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": hidden // 16,
        "num_key_value_heads": hidden // 32,
        "initializer_range": 0.08,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        **{f"{name}_token_id": token[f"{name}_token"] for name in ("pad", "bos", "eos")},
    }
    vision = {
        "depth": 1,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_heads": hidden // 16,
        "out_hidden_size": hidden,
        "fullatt_block_indexes": [0],
        "patch_size": 14,
        "initializer_range": 0.08,
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token["image_token"],
        video_token_id=token["video_token"],
        vision_start_token_id=token["vision_start_token"],
        vision_end_token_id=token["vision_end_token"],
        tie_word_embeddings=False,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = token["eos_token"]
    model.generation_config.pad_token_id = token["pad_token"]
    return model


def _batch(processor, pairs: Sequence[tuple[list, str]]) -> dict[str, Tensor]:
    """One batch of all chats, as the server makes them of a request, followed by their answers."""
    from transformers.cli.serving.model_manager import Modality
    from transformers.cli.serving.utils import BaseHandler

    rows, media = [], []
    for messages, answer in pairs:
        chat = BaseHandler.get_processor_inputs_from_messages(messages, Modality.MULTIMODAL)
        row = processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        media.append({k: v for k, v in row.items() if k in ("pixel_values", "image_grid_thw")})
        ids = processor.tokenizer(answer + SPECIAL["eos_token"], return_tensors="pt").input_ids[0]
        rows.append((row["input_ids"][0], row["mm_token_type_ids"][0], ids))
    pad = lambda rows, value: torch.nn.utils.rnn.pad_sequence(rows, True, value)  # noqa: E731
    return {
        "input_ids": pad([torch.cat([ids, answer]) for ids, _, answer in rows], processor.tokenizer.pad_token_id),
        "labels": pad([torch.cat([torch.full_like(ids, -100), answer]) for ids, _, answer in rows], -100),
        "attention_mask": pad([torch.ones(len(ids) + len(answer)) for ids, _, answer in rows], 0).long(),
        "mm_token_type_ids": pad([torch.cat([kinds, torch.zeros_like(a)]) for _, kinds, a in rows], 0),
        **{k: torch.cat([m[k] for m in media if k in m]) for k in ("pixel_values", "image_grid_thw") if any(media)},
    }


def _teach(model, batch: dict[str, Tensor], until: float, enough: float = 0.01) -> None:
    """Until every token of every answer is the likeliest by far; a loss of 0.01 is a mean probability of 99 %.

    Every other step half the words of each chat are replaced, so that it learns the form of an answer for any chat.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    words = (batch["labels"] < 0) & (batch["input_ids"] >= len(SPECIAL)) & (batch["attention_mask"] > 0)
    vocab, taught = model.config.text_config.vocab_size, 0
    while taught < 3:
        for noise in (0.5, 0.0):
            replaced = words & (torch.rand(words.shape) < noise)
            others = torch.randint(len(SPECIAL), vocab, words.shape)
            optimizer.zero_grad()
            loss = model(**{**batch, "input_ids": torch.where(replaced, others, batch["input_ids"])}).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        taught = taught + 1 if loss.item() < enough else 0
        if time.monotonic() > until:
            raise RuntimeError(f"the tiny model has not learnt its answers in time: loss {loss.item():.3f}")
