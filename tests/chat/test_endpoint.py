import pytest

from avatar.chat.endpoint import api_key, base_url
from avatar.errors import ConfigError


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        (" http://localhost:8000/v1\n", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/chat/completions", "http://localhost:8000/v1"),
        ("http://localhost:8000/chat/completions/", "http://localhost:8000/v1"),
        ("https://host/openai/v2", "https://host/openai/v2"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_without_a_path_gets_v1_and_any_other_path_stays(endpoint, url):
    assert base_url(endpoint) == url


@pytest.mark.parametrize(
    "endpoint", ["", "localhost:8000", "ftp://host/v1", "file:///etc/passwd", "http://", "http:///v1", "/v1", "host"]
)
def test_what_is_no_http_address_is_refused_with_an_example(endpoint):
    with pytest.raises(ConfigError, match=r"client\.endpoint must be like http://localhost:8000/v1"):
        base_url(endpoint)


@pytest.mark.parametrize("endpoint", ["http://host:port/v1", "http://[::1/v1", "http://host:99999"])
def test_what_is_no_address_at_all_is_refused(endpoint):
    with pytest.raises(ConfigError, match=r"client\.endpoint is no URL"):
        base_url(endpoint)


@pytest.mark.parametrize(
    "endpoint", ["https://me:hunter2@host/v1", "https://hunter2@host", "me:hunter2@host", "https://me:hunter2@host:x"]
)
def test_a_password_is_refused_and_not_repeated(endpoint):
    with pytest.raises(ConfigError, match="api_key_env") as caught:
        base_url(endpoint)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["https://host/v1?key=hunter2", "https://host/v1#hunter2"])
def test_a_query_is_refused_and_not_repeated(endpoint):
    with pytest.raises(ConfigError, match=r"client\.endpoint") as caught:
        base_url(endpoint)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "http://127.0.0.1:8000/v1",
        "http://127.1.2.3/v1",
        "http://[::1]:1/v1",
        "https://host/v1",
    ],
)
def test_a_key_goes_encrypted_or_to_this_machine(monkeypatch, url):
    monkeypatch.setenv("JUDGE_KEY", " sk-1234\n")
    assert api_key(url, "JUDGE_KEY") == "sk-1234"


@pytest.mark.parametrize(
    "url", ["http://host/v1", "http://10.0.0.1:8000/v1", "http://127.0.0.1.host/v1", "http://0.0.0.0/v1"]
)
def test_a_key_does_not_go_unencrypted_to_another_machine(monkeypatch, url):
    assert api_key(url, "JUDGE_KEY") is None  # none is set: there is nothing to lose
    monkeypatch.setenv("JUDGE_KEY", "sk-1234")
    assert api_key(url, "") is None
    with pytest.raises(ConfigError, match=r"not encrypted.*JUDGE_KEY.*Use https") as caught:
        api_key(url, "JUDGE_KEY")
    assert "sk-1234" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-1\r\nHost: other", "sk-\x00", "schlüssel"])
def test_a_key_that_fits_in_no_header_is_refused_and_not_repeated(monkeypatch, key):
    monkeypatch.setattr("os.environ", {"JUDGE_KEY": key})
    with pytest.raises(ConfigError, match="JUDGE_KEY") as caught:
        api_key("https://host/v1", "JUDGE_KEY")
    assert key not in str(caught.value)


def test_a_key_in_the_place_of_its_name_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match=r"client\.api_key_env must be the name") as caught:
        api_key("https://host/v1", "sk-1234-5678")
    assert "sk-1234" not in str(caught.value)
