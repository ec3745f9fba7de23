import pytest
from jsonargparse import ArgumentParser

from avatar.chat import ChatClient

ARGUMENTS = "{endpoint: 'http://localhost:1', model: m, max_tokens: 7}"


class Judge:
    """Something that is configured with a client."""

    def __init__(self, client: ChatClient) -> None:
        self.client = client


@pytest.mark.parametrize(
    "text",
    [ARGUMENTS, f"{{init_args: {ARGUMENTS}}}", f"{{class_path: ChatClient, init_args: {ARGUMENTS}}}"],
)
def test_a_client_is_built_from_yaml(text):
    parser = ArgumentParser()
    parser.add_class_arguments(Judge, "judge")
    client = parser.instantiate(parser.parse_string(f"judge: {{client: {text}}}")).judge.client
    assert (client.endpoint, client.model, client.max_tokens) == ("http://localhost:1/v1", "m", 7)
