"""``avatar data pack``: from a dataset as others write it down to shards that are known to be good."""

from avatar.data.pack import conversations, hf, messages, ours  # noqa: F401  (each registers itself)
from avatar.data.pack.formats import FORMATS, Draft, Embedded, Row, Shown, SourceFormat
from avatar.data.pack.packer import pack

__all__ = ["FORMATS", "Draft", "Embedded", "Row", "Shown", "SourceFormat", "pack"]
