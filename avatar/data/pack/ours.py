"""Our own JSONL: the schema of :mod:`avatar.data.schema`, one record a line, media named by paths."""

from __future__ import annotations

from typing import Any

from avatar.data.pack.formats import FORMATS, Draft, Shown
from avatar.data.pack.messages import MessagesFormat
from avatar.data.pack.shapes import files_of, strip_letters
from avatar.data.pack.text import TextFormat
from avatar.data.schema import MEDIA_KINDS, Record
from avatar.errors import DataError

NAMES = frozenset(Record.__dataclass_fields__)


@FORMATS.register("jsonl")
class OursFormat(TextFormat):
    """Our own records, one a line; media names are paths, and what the schema does not know is an error."""

    unique_keys = True
    says_sound = True

    @classmethod
    def fits(cls, row: dict[str, Any]) -> bool:
        """An answer, a question or messages, and no field that the schema does not know."""
        asked = "question" in row or "messages" in row
        return asked and "answer" in row and set(row) <= NAMES and not MessagesFormat.fits(row)

    def read(self, row: dict[str, Any]) -> Draft:
        """As it stands, but that letters are taken off the options."""
        fields = {name: value for name, value in row.items() if value is not None}
        key, media = fields.pop("key", None), fields.pop("media", [])
        if key is not None and (not isinstance(key, str) or not key):
            raise DataError(f"field 'key' must be text, got {key!r}")
        if not isinstance(media, list):
            raise DataError(f'field \'media\' must be a list like [{{"video": "a.mp4"}}], got {type(media).__name__}')
        if isinstance(options := fields.get("options"), list) and all(isinstance(o, str) for o in options):
            fields["options"] = strip_letters(options)
        return Draft(key, fields, [_shown(item, f"media[{i}]") for i, item in enumerate(media)])


def _shown(item: Any, where: str) -> Shown:
    item = {k: v for k, v in item.items() if v is not None} if isinstance(item, dict) else item
    kinds = [kind for kind in MEDIA_KINDS if isinstance(item, dict) and kind in item]
    if len(kinds) != 1:
        raise DataError(f"{where} must be an object with one of {', '.join(MEDIA_KINDS)}, got {item!r}")
    if unknown := sorted(set(item) - {kinds[0], "start", "end"}):
        raise DataError(f"{where}: unknown field {unknown[0]!r}; known: {kinds[0]}, start, end")
    files = list(files_of(item[kinds[0]], where))
    if len(files) != 1:
        raise DataError(f"{where} must name one file, got {item[kinds[0]]!r}")
    return Shown(kinds[0], files[0], item.get("start"), item.get("end"))
