"""How groups become samples: what is given out is bounded, and members are called by what they are."""

import pytest
from data.pack.instant import instant

from avatar.data.pack import FORMATS
from avatar.data.pack.files import MediaFiles
from avatar.data.pack.plan import FileRef, Group, Planned
from avatar.data.pack.samples import Samples, member_names
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium
from avatar.data.workers import WorkerPool

FIELDS = {"question": "what?", "answer": "1"}


def group(number, crops):
    """One file, shown by as many records as there are crops."""
    records = [
        Planned(f"s{number}/k{i}", f"k{i}", f"x:{i}", FIELDS, [Medium("audio", "0", None, end)], None)
        for i, end in enumerate(crops)
    ]
    return Group(f"s{number}", number, [FileRef("sounds/beep.wav")], records)


@pytest.fixture
def samples(folder, write):
    source = FORMATS["jsonl"](write([]))
    pool = WorkerPool(instant, 1)
    yield Samples(pool, MediaFiles(folder, source, folder / "carried"), ClipRule(), "record", ahead=4)
    pool.close()


def test_no_more_is_given_out_at_a_time_than_was_agreed(samples):
    pending = samples.submit(group(0, [1 + i / 1000 for i in range(200)]))  # one clip with 200 crops
    assert len(samples._out) == 4
    sample = samples.collect(pending)
    assert (len(sample.members), sample.tally.records) == (201, 200)


def test_groups_may_be_collected_while_others_are_out(samples):
    waiting = [samples.submit(group(i, [0.5, 1.0, 0.5])) for i in range(5)]
    assert len(samples._out) == 4  # of ten: in each group two of the three are the same
    done = [samples.collect(pending) for pending in waiting]
    assert [sample.name for sample in done] == [f"s{i}" for i in range(5)]
    assert all(sorted(sample.members) == ["k0.json", "k1.json", "k2.json", "wav"] for sample in done)
    assert all(sample.tally.streams == {"picture and sound": 1} for sample in done)  # what the work said


@pytest.mark.parametrize(
    ("kinds", "extensions", "names"),
    [
        (["video"], ["mp4"], ["mp4"]),
        (["image", "audio"], ["jpg", "wav"], ["jpg", "wav"]),
        (["video", "video"], ["mp4", "mov"], ["v0.mp4", "v1.mov"]),
        (["image", "video", "image"], ["png", "mp4", "png"], ["i0.png", "v0.mp4", "i1.png"]),
        (["video", "audio"], ["mp4", "mp4"], ["v0.mp4", "a0.mp4"]),
        ([], [], []),
    ],
)
def test_members_are_called_by_kind_and_number_where_an_extension_does_not_tell(kinds, extensions, names):
    assert member_names(kinds, extensions) == names


def test_a_file_that_changes_while_it_is_packed_is_not_packed(samples, folder):
    pending = samples.submit(group(0, [0.5]))
    with (folder / "sounds/beep.wav").open("ab") as file:
        file.write(b"more")
    sample = samples.collect(pending)
    assert (sample.members, sample.tally.samples) == ({}, 0)
    (entry,) = sample.quarantined
    assert (entry.cause, entry.reason) == (
        "missing media",
        "sounds/beep.wav: it changed while it was packed; pack again",
    )
