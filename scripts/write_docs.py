"""Writes docs/registry.md from the registries. `make docs` runs it; a test checks that the file is up to date."""

from pathlib import Path

from avatar.commands.listing import REGISTRIES


def registry_page() -> str:
    """The whole page."""
    parts = ["# What is registered", "", "Written by `make docs`. `avatar list` shows the same.", ""]
    for group, registry in REGISTRIES.items():
        parts += [f"## {group}", "", "| name | what it is | class |", "|---|---|---|"]
        for name in registry:
            cls = registry[name]
            first = (cls.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ").split("\n")[0]
            parts.append(f"| `{name}` | {first} | `{cls.__module__}.{cls.__qualname__}` |")
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    Path("docs/registry.md").write_text(registry_page())
