"""Each bad or odd file of the collection ends as a sample or as an entry of the quarantine that says why."""

import json

import pytest
from data.bad_media import BAD_MEDIA, SHORT, TINY

CASES = {f"case-{i}": case for i, case in enumerate(BAD_MEDIA) if case.rule is not TINY}  # pack has no such option


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    for seconds in (1, 300):
        with (folder / f"{seconds}.jsonl").open("w") as lines:
            for key, case in CASES.items():
                if (case.rule is SHORT) == (seconds == 1):
                    (folder / f"{key}.{case.medium.name}").write_bytes(case.payload)
                    medium = {**case.medium.to_fields(), case.medium.kind: f"{key}.{case.medium.name}"}
                    row = {"key": key, "question": "what is it?", "answer": "1", "media": [medium]}
                    lines.write(json.dumps({**row, "use_audio_in_video": case.use_audio}) + "\n")
    return folder


@pytest.mark.parametrize("seconds", [1, 300])
def test_every_bad_file_is_packed_whole_or_named(packed, source, seconds):
    status, found = packed(source / f"{seconds}.jsonl", max_audio_seconds=float(seconds), jobs=2)
    keys = {key for key, case in CASES.items() if (case.rule is SHORT) == (seconds == 1)}
    kept, failed = set(found.keys) if found.shards else set(), {e["key"]: e for e in found.quarantine}
    assert kept | set(failed) == keys  # nothing is lost
    assert not kept & set(failed)
    for key in keys:
        case = CASES[key]
        assert case.clips if key in kept else failed[key]["cause"] in case.causes, (case.name, failed.get(key))
        assert key in kept or failed[key]["reason"].startswith(f"{key}.{case.medium.name}"), failed[key]["reason"]
    for key in kept:
        case = CASES[key]
        assert found.payloads(key) == [case.payload]
        assert found.record(key).use_audio_in_video == (case.use_audio and case.medium.kind == "video")
        (clip,) = found.clips(key)  # as training will read it
        declared = case.medium.kind == "audio" or (case.use_audio and case.medium.kind == "video")
        assert (clip.audio is not None) == declared
    assert status == (0 if kept else 1)


def test_what_does_not_say_is_heard_where_it_can_be(packed, source):
    """With ``auto`` a film without sound is packed and not heard; one whose sound is broken is not let off."""
    _, found = packed(source / "300.jsonl", "auto", use_audio="auto", jobs=2)
    failed = {entry["key"]: entry["cause"] for entry in found.quarantine}
    mute = next(key for key, case in CASES.items() if case.name == "a film without sound that needs none")
    assert found.record(mute).use_audio_in_video is False
    late = next(key for key, case in CASES.items() if case.name == "sound that begins after the part")
    assert failed[late] == "no sound"
