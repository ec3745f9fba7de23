"""Where requests go, and the key that goes with them."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import SplitResult, urlsplit

from avatar.errors import ConfigError


def base_url(endpoint: str) -> str:
    """The URL that ``/chat/completions`` is appended to.

    ``http://host:8000`` becomes ``http://host:8000/v1``, where vLLM, SGLang and transformers serve; any other path
    stays as it is, but for a last ``/`` or ``/chat/completions``.

    Raises:
        ConfigError: It is no http(s) URL, or has more in it than a host, a port and a path.
    """
    if "@" in endpoint:  # not to be printed
        raise ConfigError(
            "client.endpoint holds an @, so perhaps a password, which would end up in logs and in stored configs: take "
            "it out, and name the environment variable that holds the key in client.api_key_env"
        )
    try:
        parts = urlsplit(endpoint.strip())
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"client.endpoint is no URL ({error}); give one like http://localhost:8000/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"client.endpoint must be like http://localhost:8000/v1 or https://host/v1, got {endpoint!r}")
    if parts.query or parts.fragment:
        raise ConfigError(
            "client.endpoint must have no ? or # part: give the address that ends before /chat/completions"
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def api_key(url: str, variable: str) -> str | None:
    """What ``variable`` holds in the environment; None if it is not set, empty, or ``variable`` is.

    Raises:
        ConfigError: ``variable`` is no name, or the key would go over the network unencrypted or fits in no header.
    """
    if variable and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):  # a key, perhaps: not to be printed
        raise ConfigError(
            "client.api_key_env must be the name of an environment variable, like OPENAI_API_KEY, or empty; the key "
            "itself stands in no configuration"
        )
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key:
        return None
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{variable} holds characters that no API key has (client.api_key_env): set it anew")
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts):
        raise ConfigError(
            f"client.endpoint: {url} is not encrypted, and the key in {variable} would be sent there for all to "
            "read. Use https, or a tunnel to localhost; for a server that needs no key, set client.api_key_env to ''"
        )
    return key


def is_loopback(parts: SplitResult) -> bool:
    """Whether requests stay on this machine."""
    host = parts.hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
