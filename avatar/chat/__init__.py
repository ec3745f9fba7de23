"""Asking a model behind an OpenAI-compatible endpoint: judges and teachers."""

from avatar.chat.client import ChatClient
from avatar.chat.parts import image_part, text_part
from avatar.chat.request import ChatError, ChatReply, ChatRequest, Usage

__all__ = ["ChatClient", "ChatError", "ChatReply", "ChatRequest", "Usage", "image_part", "text_part"]
