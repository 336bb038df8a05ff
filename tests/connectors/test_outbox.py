"""What is said waits on the disk until each receiver has it, in its order, once, and within bounds."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import Misconfigured, OutboxUnavailable
from connectors.outbox import Outbox
from connectors.outbox_rows import Entry, Waiting

KILLED = """
import os, signal, sys
from pathlib import Path
from connectors.outbox import Outbox
from connectors.outbox_rows import Entry
outbox = Outbox(Path(sys.argv[1]))
outbox.add([Entry("q", f"i{n}", 0, False, b"body") for n in range(3)], 1)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """An empty outbox."""
    made = Outbox(tmp_path / "state" / "outbox.db")
    yield made
    made.close()


def entry(incident: str, sequence: int, ends: bool = False, queue: str = "q") -> Entry:
    """Return a message."""
    return Entry(queue, incident, sequence, ends, f"{incident}:{sequence}".encode())


def bodies(messages: list[Waiting]) -> list[str]:
    """Return what the messages say."""
    return [message.body.decode() for message in messages]


def drain(outbox: Outbox, queue: str = "q") -> list[str]:
    """Deliver everything; return what was said, in that order."""
    said: list[str] = []
    while messages := outbox.due(queue, 2**60, 10):
        said += bodies(messages)
        outbox.told_of(queue, messages, 5)
    return said


def test_of_each_incident_only_the_oldest_message_is_due(outbox: Outbox) -> None:
    """Protects the order of an incident's messages, whatever is sent at once or put off."""
    outbox.add([entry("a", 0), entry("a", 1), entry("b", 0)], 1)
    first = outbox.due("q", 1, 10)
    assert bodies(first) == ["a:0", "b:0"]
    outbox.put_off(first[0], 100)
    assert bodies(outbox.due("q", 1, 10)) == ["b:0"]
    outbox.delivered([first[1]])
    assert outbox.due("q", 1, 10) == []
    assert outbox.next_due_us("q") == 100
    assert bodies(outbox.due("q", 100, 10)) == ["a:0"]


def test_what_failed_comes_after_what_was_not_tried(outbox: Outbox) -> None:
    """Protects all other incidents from a message on which the receiver always fails."""
    outbox.add([entry("poison", 0), entry("b", 0)], 1)
    outbox.put_off(outbox.due("q", 1, 1)[0], 0)
    assert bodies(outbox.due("q", 1, 1)) == ["b:0"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), max_size=30))
def test_a_replay_says_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, int, bool]]
) -> None:
    """Protects receivers from a replay after a crash: the same messages again add nothing, delivered or not."""
    outbox = Outbox(tmp_path_factory.mktemp("outbox") / "outbox.db")
    entries = [entry(*each) for each in said]
    outbox.add(entries, 1)
    waiting = outbox.depth("q").waiting
    assert outbox.add(entries, 2) == set()
    drain(outbox)
    assert outbox.add(entries, 3) == set()
    assert waiting <= len(set(said))
    outbox.close()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), max_size=30))
def test_a_batch_says_what_its_messages_say_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, int, bool]]
) -> None:
    """Protects several messages of one incident in one batch from being judged by what was known before it."""
    outbox = Outbox(tmp_path_factory.mktemp("outbox") / "outbox.db")
    outbox.add([entry(*each, queue="at once") for each in said], 1)
    for each in said:
        outbox.add([entry(*each, queue="one by one")], 1)
    states = outbox._db.execute("SELECT queue, incident, sequence, ended, held, changed_us FROM incident").fetchall()
    assert {s[1:] for s in states if s[0] == "at once"} == {s[1:] for s in states if s[0] == "one by one"}
    assert drain(outbox, "at once") == drain(outbox, "one by one")
    outbox.close()


def test_any_text_and_any_bytes_come_out_as_they_went_in(outbox: Outbox) -> None:
    """Protects messages from the way by which whole batches of them get into the file."""
    names = ["a\x00b", "'\"\\", "ünï🚰", "", "\x1f"]
    said = [Entry("q\x00", name, 2**63 - 1, False, bytes(range(256)) * 9 + name.encode()) for name in names]
    outbox.add(said, 2**62)
    messages = outbox.due("q\x00", 2**62, 10)
    assert [(m.incident, m.sequence, m.ends, m.body, m.added_us, m.tries) for m in messages] == [
        (each.incident, each.sequence, False, each.body, 2**62, 0) for each in said
    ]
    assert outbox.add(said, 3) == set()
    outbox.told_of("q\x00", messages, 2**61 + 1)
    assert outbox.told("q\x00", names) == {e.incident: (e.incident, e.body, True, 2**61 + 1) for e in said}


def test_a_batch_is_added_by_the_same_few_statements_whatever_its_size(outbox: Outbox) -> None:
    """Protects the loop, which gives up Python's lock for every step that a thread makes in SQLite."""
    said: list[str] = []
    outbox._db.set_trace_callback(said.append)

    outbox.add([entry(f"i{n % 30}", n) for n in range(50)], 1)
    assert [words.split()[0] for words in said] == ["BEGIN", "SELECT", "INSERT", "INSERT", "COMMIT"]
    assert outbox.depth("q").waiting == 50


def test_an_end_gets_through_whatever_its_number(outbox: Outbox) -> None:
    """Protects from an alert that fires for ever: after lost checkpoints the numbers begin anew."""
    outbox.add([entry("a", 7)], 1)
    assert outbox.add([entry("a", 0)], 2) == set()
    assert outbox.add([entry("a", 1, ends=True)], 3) == {"q"}
    assert drain(outbox) == ["a:7", "a:1"]


def test_what_was_added_outlasts_kill_9(tmp_path: Path) -> None:
    """Protects messages whose offsets are committed next."""
    path = tmp_path / "outbox.db"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -9
    outbox = Outbox(path)
    assert bodies(outbox.due("q", 2, 10)) == ["body"] * 3
    outbox.close()


def test_what_a_receiver_knows_is_remembered(outbox: Outbox) -> None:
    """Protects alerts that fire from being forgotten at a restart, and ended ones from being told again."""
    outbox.add([entry("a", 0), entry("a", 1), entry("b", 0), entry("b", 1, ends=True)], 1)
    drain(outbox)
    assert [(told.incident, told.body) for told in outbox.held_open("q", "", 10)] == [("a", b"a:1")]
    assert outbox.held_open("q", "a", 10) == []
    assert (outbox.told("q", ["a", "b", "c"])["b"].open, len(outbox.told("q", ["a", "b", "c"]))) == (False, 2)
    outbox.end("q", "a")
    assert outbox.held_open("q", "", 10) == []


def test_what_went_to_another_process_is_not_told_again(outbox: Outbox) -> None:
    """Protects from two processes that say different things of one incident; what comes back is told again."""
    outbox.add([entry("a", 0), entry("b", 0)], 1)
    drain(outbox)
    outbox.hold(["q"], ["b"])
    assert [told.incident for told in outbox.held_open("q", "", 10)] == ["b"]
    outbox.add([entry("a", 1)], 2)
    assert [told.incident for told in outbox.held_open("q", "", 10)] == ["a", "b"]


def test_what_went_to_another_process_untold_is_told_once(outbox: Outbox) -> None:
    """Protects from telling for ever of what goes on, and ends, in another process; an end of ours is waited for."""
    outbox.add([entry("a", 0), entry("b", 0), entry("c", 0), entry("c", 1, ends=True)], 1)
    on_its_way = outbox.due("q", 1, 10)
    outbox.hold(["q"], ["b"])
    outbox.told_of("q", on_its_way, 2)
    assert [told.incident for told in outbox.held_open("q", "", 10)] == ["b", "c"]
    assert drain(outbox) == ["c:1"]
    assert [told.incident for told in outbox.held_open("q", "", 10)] == ["b"]


def test_a_new_instance_begins_with_what_is_open(outbox: Outbox) -> None:
    """Protects an Alertmanager that is added later from knowing nothing of what fires; once only."""
    outbox.add([entry("a", 0), entry("b", 0), entry("b", 1, ends=True)], 1)
    drain(outbox)
    assert outbox.adopt("new", "q") == 1
    assert [told.incident for told in outbox.held_open("new", "", 10)] == ["a"]
    assert outbox.adopt("new", "q") == 0


def test_refused_messages_are_kept_for_people(outbox: Outbox) -> None:
    """Protects what a receiver will not take from vanishing; its successors go on."""
    outbox.add([entry("a", 0), entry("a", 1)], 1)
    outbox.refused("q", outbox.due("q", 1, 1)[0], 9, "answers 400")
    (refusal,) = outbox.refusals("q")
    assert (refusal.incident, refusal.sequence, refusal.at_us, refusal.error) == ("a", 0, 9, "answers 400")
    assert outbox.depth("q") == (1, 1, 1)
    assert drain(outbox) == ["a:1"]


def test_beyond_the_bound_updates_go_first_then_what_is_over(tmp_path: Path) -> None:
    """Protects the disk; what is open, and the newest, are worth most. Every drop is counted."""
    outbox = Outbox(tmp_path / "outbox.db", max_waiting=4)
    outbox.add([entry("a", 0), entry("a", 1), entry("a", 2), entry("b", 0)], 1)
    outbox.add([entry("b", 1, ends=True)], 2)
    assert outbox.dropped("q") == 1
    assert {m.body for m in outbox.due("q", 2, 10)} == {b"a:0", b"b:0"}
    outbox.add([entry("c", 0)], 3)
    assert (outbox.dropped("q"), outbox.depth("q").waiting) == (3, 3)
    assert drain(outbox) == ["a:0", "c:0", "a:2"]
    outbox.close()


def test_without_a_bound_nothing_is_dropped(outbox: Outbox) -> None:
    """Protects whoever would rather fill the disk than lose a message."""
    outbox.add([entry("a", n) for n in range(500)], 1)
    assert (outbox.depth("q").waiting, outbox.dropped("q")) == (500, 0)


def test_an_end_that_was_dropped_leaves_nothing_firing(tmp_path: Path) -> None:
    """Protects from telling for ever that something goes on of whose end nobody can be told any more."""
    outbox = Outbox(tmp_path / "outbox.db", max_waiting=1)
    outbox.add([entry("a", 0)], 1)
    drain(outbox)
    outbox.add([entry("a", 1, ends=True)], 2)
    outbox.add([entry("b", 0)], 3)
    assert outbox.held_open("q", "", 10) == []
    outbox.close()


def test_what_is_old_is_forgotten(outbox: Outbox) -> None:
    """Protects the disk from what ended long ago; what is open or waits stays."""
    outbox.add([entry("over", 0), entry("over", 1, ends=True), entry("open", 0)], 1)
    drain(outbox)
    outbox.add([entry("waits", 0), entry("waits", 1, ends=True)], 1)
    assert outbox.retain(1_000) == 1
    assert [told.incident for told in outbox.held_open("q", "", 10)] == ["open"]
    assert outbox.depth("q").waiting == 2
    assert outbox.strangers(["other"]) == {"q": 2}
    assert outbox.forget("q", 1_000) == 2


def test_it_is_for_one_process(outbox: Outbox, tmp_path: Path) -> None:
    """Protects receivers from two processes that deliver the same queue."""
    with pytest.raises(Misconfigured, match="used by another process: give each replica a state directory of its own"):
        Outbox(tmp_path / "state" / "outbox.db")


def test_another_kind_of_file_is_left_alone(tmp_path: Path) -> None:
    """Protects a file that was named by mistake."""
    path = tmp_path / "outbox.db"
    path.write_bytes(b"somebody's letters" * 1000)
    with pytest.raises(Misconfigured, match="is no outbox"):
        Outbox(path)
    assert path.read_bytes().startswith(b"somebody's letters")
    path.unlink()
    with sqlite3.connect(path) as later:
        later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(Misconfigured, match="later version"):
        Outbox(path)


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    """Protects alerts to come from a disk that damaged what waited."""
    path = tmp_path / "outbox.db"
    outbox = Outbox(path)
    outbox.add([entry(f"i{n}", 0) for n in range(500)], 1)
    outbox.close()
    data = bytearray(path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    outbox = Outbox(path)
    outbox.add([entry("new", 0)], 1)
    assert drain(outbox) == ["new:0"]
    assert path.with_name("outbox.db.damaged").read_bytes() == bytes(data)
    outbox.close()


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Protects the operator from guessing."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutboxUnavailable, match="outbox"):
        Outbox(tmp_path / "file" / "outbox.db")


def test_a_write_that_hangs_holds_up_nobody_for_long(outbox: Outbox) -> None:
    """Protects the loop: whoever adds gives up after its own time, and nothing is half added."""
    entered, leave = threading.Event(), threading.Event()

    def hog() -> None:
        with outbox._turn:
            entered.set()
            leave.wait(30.0)

    thread = threading.Thread(target=hog)
    thread.start()
    entered.wait(30.0)
    with pytest.raises(OutboxUnavailable, match="busy"):
        outbox.add([entry("a", 0)], 1, timeout_s=0.01)
    leave.set()
    thread.join()
    assert outbox.depth("q").waiting == 0
