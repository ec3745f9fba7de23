import gc
import io
import os
import pickle
import re
import sys
from collections import Counter, OrderedDict
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests_work import Trap

from avatar.data import transport
from avatar.data.transport import receive, send
from avatar.errors import DataError
from avatar.types import Clip, Prompt

pytestmark = pytest.mark.timeout(60)
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


@pytest.fixture
def way():
    """(here, there): the two ends of a connection."""
    ends = Pipe()
    yield ends
    for end in ends:
        end.close()


def over(way, item):
    """``item``, as it comes out at the other end."""
    here, there = way
    sending = Thread(target=send, args=(there, item))  # a text may be larger than the socket between
    sending.start()
    try:
        return receive(here)
    finally:
        sending.join(10)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def num_handles():
    return len(os.listdir("/proc/self/fd"))


def num_maps():
    return Path("/proc/self/maps").read_text().count("avatar-clip")


# -- what comes through ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -(10**30), 1.5, float("inf"), "", "Töne 几 🎵 \ud83c", b"\0\xff", (), [], {}, set(),
        (1, [2, {"a": (None,)}]), {1: {2: 3}}, frozenset({"a"}), {"a", "b"},
    ],
)  # fmt: skip
def test_plain_values_come_through_as_they_are(way, value):
    found = over(way, value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (7,), (2, 3, 5), (1, 1, 1, 1)], ids=str)
def test_tensors_of_every_type_and_shape_come_through(way, dtype, shape):
    tensor = (torch.arange(torch.Size(shape).numel()) % 5 - 2).view(shape).to(dtype)
    found = over(way, (tensor, "and", [tensor]))
    assert same(found[0], tensor)
    assert same(found[2][0], tensor)


def views():
    whole = torch.arange(60.0).view(3, 4, 5)
    return {
        "slice": whole[1:, ::2],
        "transposed": whole.transpose(0, 2),
        "expanded": torch.tensor([1.0, 2.0])[:, None].expand(2, 5),
        "channels last": whole[None].contiguous(memory_format=torch.channels_last),
        "one in the middle": whole[1, 2, 3],
        "last row": whole[2, 3],
        "flipped": whole.flip(0)[1],
    }


@pytest.mark.parametrize("view", views())
def test_a_part_of_a_tensor_comes_through_as_that_part(way, view):
    tensor = views()[view]
    assert same(over(way, tensor), tensor)


def test_a_tensor_with_a_gradient_comes_through_without_it(way):
    found = over(way, torch.ones(3, requires_grad=True).detach())
    assert not found.requires_grad


@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 9)), max_size=6)
)
def test_any_row_of_tensors_comes_through_in_order(row):
    tensors = [torch.full(shape, value).to(dtype) for dtype, shape, value in row]
    here, there = Pipe()
    with here, there:
        found = over((here, there), tensors)
    assert len(found) == len(tensors)
    assert all(same(a, b) for a, b in zip(found, tensors, strict=True))


def test_every_tensor_begins_where_vectors_may(way):
    found = over(way, [torch.ones(n, dtype=torch.uint8) for n in (1, 63, 64, 65, 3)])
    assert [tensor.data_ptr() % 64 for tensor in found] == [0] * 5


def test_tensors_of_one_result_do_not_overlap(way):
    found = over(way, [torch.zeros(5), torch.zeros(17), torch.zeros(3)])
    for i, tensor in enumerate(found):
        tensor.fill_(i + 1)
    assert [tensor.unique().tolist() for tensor in found] == [[1.0], [2.0], [3.0]]


def test_objects_of_ours_come_through_with_their_tensors(way):
    clip = Clip(
        "k", torch.zeros(2, 3, 4, 4, dtype=torch.uint8), 2.0, torch.ones(9), times=torch.tensor([0.0, 0.5]).double()
    )
    found = over(way, Prompt("p", [{"role": "user", "content": [{"type": "video"}]}], (clip,), "a"))
    assert (type(found), type(found.clips[0])) == (Prompt, Clip)
    assert found.messages == [{"role": "user", "content": [{"type": "video"}]}]
    for name in ("frames", "audio", "times"):
        assert same(getattr(found.clips[0], name), getattr(clip, name))


def test_many_results_come_one_after_the_other(way):
    here, there = way
    results = [{"i": i, "t": torch.full((i,), i), "text": "x" * i} for i in range(40)]
    for result in results:
        send(there, result)
    for result in results:
        found = receive(here)
        assert same(found.pop("t"), result["t"])
        assert found == {"i": result["i"], "text": result["text"]}


def test_a_text_larger_than_the_socket_comes_through(way):
    assert len(over(way, "x" * 3_000_000)) == 3_000_000


def test_where_there_is_no_memfd_a_file_without_a_name_does(way, monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert same(over(way, torch.arange(1000)), torch.arange(1000))


# -- memory and handles ------------------------------------------------------------------------------------------------


def test_a_tensor_outlives_the_connection():
    here, there = Pipe()
    found = over((here, there), torch.arange(1000))
    here.close()
    there.close()
    assert same(found, torch.arange(1000))


def test_memory_is_given_back_with_the_last_tensor_that_lies_in_it(way):
    gc.collect()
    before = num_maps()  # of clips that others hold for the whole session
    first, second = over(way, [torch.zeros(1000), torch.ones(1000)])
    assert num_maps() == before + 1
    del first
    gc.collect()
    assert num_maps() == before + 1
    assert float(second.sum()) == 1000.0
    del second
    gc.collect()
    assert num_maps() == before


def test_no_handle_stays_open_while_tensors_are_held(way):
    before, held = num_handles(), []
    for _ in range(200):
        held.append(over(way, torch.zeros(100)))
    assert num_handles() == before


def test_what_holds_no_tensor_takes_no_memory_to_map(way, monkeypatch):
    monkeypatch.setattr(transport, "_memory", lambda: pytest.fail("memory was asked for"))
    assert over(way, {"a": 1}) == {"a": 1}


def test_if_nobody_is_there_the_sender_hears_of_it_and_leaks_nothing():
    before = num_handles()
    for item in ("text", torch.zeros(1000)):
        here, there = Pipe()
        here.close()
        with there, pytest.raises(OSError):  # noqa: PT011
            send(there, item)
    assert num_handles() == before


def test_if_the_sender_is_gone_the_receiver_hears_of_it():
    here, there = Pipe()
    there.close()
    with here, pytest.raises(EOFError):
        receive(here)


def test_if_the_sender_goes_between_words_and_memory_the_receiver_hears_of_it(monkeypatch):
    here, there = Pipe()
    monkeypatch.setattr(transport, "send_handle", lambda *_: None)
    send(there, torch.zeros(1000))
    there.close()
    with here, pytest.raises((EOFError, OSError)):
        receive(here)


# -- what does not -----------------------------------------------------------------------------------------------------


def sent_by_anybody(way, raw):
    """What comes of bytes that a sender makes up."""
    here, there = way
    there.send_bytes((0).to_bytes(transport.WORD, "big") + raw)
    return receive(here)


def called(path, name, marker):
    """A pickle that calls ``path.name("touch MARKER", shell...)`` where it is read."""
    return b"\x80\x04" + f"c{path}\n{name}\n".encode() + b"(" + pickle.dumps(f"touch {marker}", 4)[2:-1] + b"tR."


def test_a_pickle_that_calls_a_function_works_on_a_plain_unpickler(tmp_path):
    """The control: with the unpickler of python the trap of the tests below does what it says."""
    pickle.loads(called("os", "system", tmp_path / "marker"))  # noqa: S301
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("subprocess", "Popen"),
        ("avatarx", "system"),
        ("avatar", "import_module"),
        ("avatar.cli", "import_module"),  # a function that a room of ours has imported
        ("avatar.cli", "main"),  # a function of ours
        ("avatar.data.transport", "os.system"),  # through a room of ours
        ("avatar.data.transport", "tempfile._os.system"),
        ("avatar.data.skipped", "Path"),  # a class, but not ours
        ("avatar.data.workers", "Path"),
        ("avatar.data.workers", "multiprocessing.process.BaseProcess"),
        ("avatar.data.transport", "io.BytesIO"),
        ("avatar.data.workers", "WorkerPool.__class__"),
        ("avatar.data.workers", "Tensor"),
        ("avatar.nowhere", "Clip"),
        ("avatar.types", "Nothing"),
    ],
)
def test_nothing_but_classes_of_ours_can_be_named(way, tmp_path, path, name):
    __import__("avatar.data.skipped")
    before = set(tmp_path.iterdir())
    with pytest.raises((pickle.UnpicklingError, AttributeError, ImportError)) as error:
        sent_by_anybody(way, called(path, name, tmp_path / "marker"))
    assert set(tmp_path.iterdir()) == before
    if isinstance(error.value, pickle.UnpicklingError):
        assert re.search(
            rf"a worker sent {re.escape(path)}\.{re.escape(name)}, which is no class of avatar", str(error.value)
        )


def test_a_package_whose_name_begins_like_ours_is_not_ours(way, tmp_path, monkeypatch):
    (tmp_path / "avatarx.py").write_text("class Clip:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match=r"a worker sent avatarx\.Clip, which is no class of avatar"):
        sent_by_anybody(way, b"\x80\x04cavatarx\nClip\n.")
    assert "avatarx" not in sys.modules
    assert sent_by_anybody(way, b"\x80\x04cavatar.types\nClip\n.") is Clip


def test_no_way_leads_through_a_room_of_ours_to_the_class_that_starts_programs(way, tmp_path, monkeypatch):
    import subprocess

    monkeypatch.setattr(transport, "subprocess", subprocess, raising=False)
    raw = called("avatar.data.transport", "subprocess.Popen", tmp_path / "marker")
    with pytest.raises(pickle.UnpicklingError, match=r"transport\.subprocess\.Popen, which is no class of avatar"):
        sent_by_anybody(way, raw)


@pytest.mark.parametrize(
    "item", [Trap(os.system, "true"), Path("x"), OrderedDict(a=1), Counter("a"), ValueError("x"), DataError]
)
def test_what_a_worker_may_not_send_is_refused_at_the_door(way, item):
    if item is DataError:
        assert over(way, item) is DataError  # a class of ours
        return
    with pytest.raises(pickle.UnpicklingError, match="which is no class of avatar"):
        over(way, item)
    assert over(way, "the next") == "the next"


def test_a_tensor_cannot_be_smuggled_in_as_a_pickle_of_torch(way):
    buffer = io.BytesIO()
    pickle.dump(torch.ones(2), buffer)
    with pytest.raises(pickle.UnpicklingError, match="no class of avatar"):
        sent_by_anybody(way, buffer.getvalue())


@pytest.mark.parametrize("raw", [b"", b".", b"garbage", b"\x80\x04", b"\x80\x04N", pickle.dumps((1, 2))[:-3]])
def test_garbage_raises_and_does_not_hang(way, raw):
    with pytest.raises(Exception):  # noqa: B017, PT011
        sent_by_anybody(way, raw)


def test_a_claim_of_more_memory_than_was_sent_raises(way):
    here, there = way
    there.send_bytes((2**40).to_bytes(transport.WORD, "big") + pickle.dumps(None))
    handle = os.memfd_create("small")
    os.ftruncate(handle, 100)
    transport.send_handle(there, handle, None)
    os.close(handle)
    with pytest.raises(ValueError, match="100 bytes of memory came, 1099511627776 were announced"):
        receive(here)


@pytest.mark.parametrize(
    "place", [("torch.float32", (100,), 0), ("torch.float32", (10,), 40), ("torch.uint8", (1,), -1)]
)
def test_a_tensor_outside_of_its_memory_raises(way, place):
    here, there = way

    class Liar(pickle.Pickler):
        def persistent_id(self, item):
            return place if item == "tensor" else None

    file = io.BytesIO()
    Liar(file).dump(["tensor"])
    there.send_bytes((64).to_bytes(transport.WORD, "big") + file.getvalue())
    handle = os.memfd_create("small")
    os.ftruncate(handle, 64)
    transport.send_handle(there, handle, None)
    os.close(handle)
    with pytest.raises(RuntimeError, match=r"shape|size|view"):
        receive(here)


def test_the_types_of_tensors_cannot_be_used_to_name_anything_else(way):
    class Liar(pickle.Pickler):
        def persistent_id(self, item):
            return ("torch.load", (2,), 0) if item == "tensor" else None

    file = io.BytesIO()
    Liar(file).dump(["tensor"])
    with pytest.raises((TypeError, AssertionError, AttributeError)):
        sent_by_anybody(way, file.getvalue())
    assert "torch" in sys.modules
