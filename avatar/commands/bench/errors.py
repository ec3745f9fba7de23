"""What goes wrong while something is measured."""

from __future__ import annotations

from avatar.errors import AvatarError


class BenchError(AvatarError):
    """A worker ended, or something else was done than was to be measured: there are no figures."""
