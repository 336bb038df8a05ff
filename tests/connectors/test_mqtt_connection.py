"""The connection to MQTT brokers, against a real mosquitto: who we are, whom we trust, how we leave, what we hold."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from connectors.errors import Misconfigured, SourceRefused, SourceUnavailable
from connectors.free_ports import free_port
from connectors.mqtt_connection import MqttConnection
from connectors.mqtt_messages import Broker, MqttMessage, Presence, Publish, Subscription, Taken, Tls
from connectors.mqtt_refusals import connection_refused
from connectors.reading import Reading
from connectors.source import Outlet
from pipeline.ingest.source_contract import LEAVES_WITHIN_S
from pipeline.ingest.trial import Trial
from tests.connectors.test_http_post_tls import Authority
from tests.mosquitto_server import MosquittoServer
from tests.mqtt_peers import Publisher

EVERYTHING = (Subscription("s/#"),)


class Listener:
    """A consumer that makes each message a reading, and keeps what it was told."""

    def __init__(self) -> None:
        self.messages: list[MqttMessage] = []
        self.sizes: list[int] = []
        self.said: list[str] = []
        self.ticks = 0
        self.publish: Publish | None = None

    def connected(self, publish: Publish, resumed: bool) -> None:
        self.publish = publish
        self.said.append("resumed" if resumed else "new")

    def disconnected(self) -> None:
        self.said.append("lost")

    def read(self, messages: Sequence[MqttMessage]) -> Taken:
        self.messages += messages
        self.sizes.append(len(messages))
        return Taken([Reading(one.topic, "x", one.received_us, float(one.payload)) for one in messages])

    def tick(self, connected: bool) -> Taken | None:
        self.ticks += 1
        return None


class Connected:
    """A connection with its listener, as a source."""

    def __init__(
        self, broker: Broker, subscriptions: Sequence[Subscription] = EVERYTHING, window: int = 10_000
    ) -> None:
        self.listener = Listener()
        self.connection = MqttConnection(broker, subscriptions, window=window)

    def run(self, outlet: Outlet) -> None:
        self.connection.run(outlet, self.listener)


def ends_with(broker: Broker, path: Path) -> BaseException | None:
    """Return what a run raises."""
    with Trial(path / "life") as trial:
        trial.run(Connected(broker))
        deadline = time.monotonic() + 60
        while not trial.ended:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return trial.error


def password_file(folder: Path) -> Path:
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("needs mosquitto_passwd, which Debian has in the package mosquitto")
    file = folder / "passwords"
    subprocess.run([tool, "-b", "-c", str(file), "vedette", "right"], check=True, capture_output=True)
    file.chmod(0o644)
    return file


@pytest.mark.parametrize("version", [5, 4])
def test_wrong_credentials_are_refused_in_words(version: int, tmp_path: Path) -> None:
    """Protects a person who mistyped: the source is given up, says as whom it came, and not with which password."""
    lines = f"allow_anonymous false\npassword_file {password_file(tmp_path)}"
    with MosquittoServer(tmp_path / "broker", lines) as server:
        error = ends_with(Broker("127.0.0.1", "c", server.port, "vedette", "wrong", version=version), tmp_path)
        assert isinstance(error, SourceRefused)
        assert "as user vedette" in str(error)
        assert "wrong" not in str(error)
        nobody = ends_with(Broker("127.0.0.1", "c", server.port, version=version), tmp_path)
        assert isinstance(nobody, SourceRefused)
        assert "without a user name" in str(nobody)
        with Trial(tmp_path / "right") as trial:
            trial.run(Connected(Broker("127.0.0.1", "c", server.port, "vedette", "right", version=version)))
            trial.until(lambda: None in trial.reasons)


def test_secrets_are_not_shown() -> None:
    """Protects logs: neither the broker's password nor the key's is in a repr."""
    broker = Broker("h", "c", username="u", password="hush", tls=Tls(key_password="hush"))
    assert "hush" not in repr(broker)


def test_nobody_there_is_said(tmp_path: Path) -> None:
    """Protects the retry: a broker that is away is no reason to give up."""
    error = ends_with(Broker("127.0.0.1", "c", free_port()), tmp_path)
    assert isinstance(error, SourceUnavailable)
    assert "refused" in str(error)
    error = ends_with(Broker("no-such-host.invalid", "c"), tmp_path)
    assert isinstance(error, SourceUnavailable)


Reply = Callable[[bytes], bytes | None]
"""What is said to a packet: bytes, after which it listens on; nothing more and the end; or None, silence for ever."""


class Other:
    """Something that listens and is no mosquitto."""

    def __init__(self, reply: Reply, ends: bool = False) -> None:
        self._reply = reply
        self._ends = ends
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.heard: list[bytes] = []
        self._kept: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            self._kept.append(peer)
            try:
                self._talk(peer)
            except ConnectionError:
                peer.close()

    def _talk(self, peer: socket.socket) -> None:
        while heard := peer.recv(1000):
            self.heard.append(heard)
            answer = self._reply(heard)
            if answer is None:
                return
            peer.sendall(answer)
            if self._ends or not answer:
                break
        peer.close()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for peer in self._kept:
            peer.close()
        self._thread.join(60)


def only_311(heard: bytes, granted: bytes = b"\x01") -> bytes:
    """Answer as a broker that knows MQTT 3.1.1 only; then end."""
    if heard[0] == 0x10:
        return b"\x20\x02\x00\x00" if heard[8] == 4 else b"\x20\x02\x00\x01"
    return b"\x90\x03" + heard[2:4] + granted if heard[0] == 0x82 else b""


def test_an_old_broker_is_spoken_to_in_its_language(tmp_path: Path) -> None:
    """Protects users of brokers without MQTT 5: after its refusal (MQTT 3.1.1, 3.2.2.3: code 1) comes 3.1.1."""
    old = Other(only_311)
    try:
        with Trial(tmp_path / "life") as trial:
            trial.run(Connected(Broker("127.0.0.1", "c", old.port)))
            trial.until(lambda: None in trial.reasons)
        assert [heard[8] for heard in old.heard if heard[0] == 0x10] == [5, 4]
        alone = ends_with(Broker("127.0.0.1", "c", old.port, version=5), tmp_path)
        assert isinstance(alone, SourceUnavailable)
        assert "MQTT 5" in str(alone)
    finally:
        old.close()


def test_subscriptions_that_are_not_allowed_are_refused(tmp_path: Path) -> None:
    """Protects from a source that listens to nothing and seems well: 128 is a failure (MQTT 3.1.1, 3.9.3)."""
    strict = Other(lambda heard: only_311(heard, b"\x80"))
    try:
        error = ends_with(Broker("127.0.0.1", "c", strict.port, version=4), tmp_path)
        assert isinstance(error, SourceRefused)
        assert "s/#" in str(error)
    finally:
        strict.close()


def taking_over(heard: bytes) -> bytes:
    """Answer as an MQTT 5 broker that finds another client with our id at once: reason 0x8E (MQTT 5, 3.14.2.1)."""
    if heard[0] == 0x10:
        return b"\x20\x03\x00\x00\x00"
    return b"\x90\x04" + heard[2:4] + b"\x00\x01" + b"\xe0\x02\x8e\x00"


def test_two_with_one_id_do_not_fight(tmp_path: Path) -> None:
    """Protects the broker and both readers: who is thrown out says why, and leaves it to the process to come back."""
    crowded = Other(taking_over)
    try:
        error = ends_with(Broker("127.0.0.1", "same", crowded.port), tmp_path)
        assert isinstance(error, SourceUnavailable)
        assert "client id same" in str(error)
    finally:
        crowded.close()


def test_a_broker_that_ends_each_connection_gets_a_hint_said(tmp_path: Path) -> None:
    """Protects from a riddle: some brokers throw out the older of two clients with one id without a word."""
    crowded = Other(lambda heard: taking_over(heard)[:-2] + b"\x89\x00" if heard[0] == 0x82 else taking_over(heard))
    try:
        with Trial(tmp_path / "life") as trial:
            trial.run(Connected(Broker("127.0.0.1", "same", crowded.port)))
            trial.until(lambda: any("client id same" in reason for reason in trial.reasons if reason))
    finally:
        crowded.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x20\xff\xff\xff\xff\xff", b"\x20\x00"])
def test_what_is_no_broker_raises_nothing_else(answer: bytes, tmp_path: Path) -> None:
    """Protects from the wrong port: whatever answers, the source says that it cannot be had."""
    other = Other(lambda _: answer, ends=True)
    try:
        assert isinstance(ends_with(Broker("127.0.0.1", "c", other.port), tmp_path), SourceUnavailable)
    finally:
        other.close()


def test_it_leaves_while_a_silent_peer_is_waited_for(tmp_path: Path) -> None:
    """Protects the graceful end: about two seconds, whatever the peer does."""
    silent = Other(lambda _: None)
    try:
        for tls in (None, Tls()):
            with Trial(tmp_path / str(tls is None)) as trial:
                heard = len(silent.heard)
                trial.run(Connected(Broker("127.0.0.1", "c", silent.port, tls=tls)))
                trial.until(lambda heard=heard: len(silent.heard) > heard)  # type: ignore[misc]
                assert trial.stop() < LEAVES_WITHIN_S
    finally:
        silent.close()


def test_it_leaves_a_broker_that_hangs(tmp_path: Path) -> None:
    """Protects the graceful end: a broker that takes nothing any more holds nobody."""
    with MosquittoServer(tmp_path / "broker") as server, Trial(tmp_path / "life") as trial:
        trial.run(Connected(Broker("127.0.0.1", "c", server.port)))
        trial.until(lambda: None in trial.reasons)
        server.freeze()
        assert trial.stop() < LEAVES_WITHIN_S


def test_a_broker_that_hangs_is_noticed(tmp_path: Path) -> None:
    """Protects from silence that looks like peace: without a sign of life within the keepalive the source fails."""
    with MosquittoServer(tmp_path / "broker") as server, Trial(tmp_path / "life") as trial:
        trial.run(Connected(Broker("127.0.0.1", "c", server.port, keepalive_s=1)))
        trial.until(lambda: None in trial.reasons)
        server.freeze()
        trial.until(lambda: any(trial.reasons))
        server.thaw()
        trial.until(lambda: trial.reasons[-1] is None)


def test_the_window_bounds_what_is_held(tmp_path: Path) -> None:
    """Protects the memory: while nothing becomes durable no more than the window comes in, at QoS 1 and at QoS 0."""
    for qos in (1, 0):
        with MosquittoServer(tmp_path / f"broker{qos}") as server, Trial(tmp_path / f"life{qos}", max_spool=1) as trial:
            source = Connected(Broker("127.0.0.1", "c", server.port), [Subscription("s/#", qos)], window=50)
            trial.run(source)
            trial.until(lambda: None in trial.reasons)
            trial.kafka.up = False
            with Publisher(server.port) as publisher:
                publisher.tell([(f"s/{number}", b"%d" % number) for number in range(400)], qos)
            trial.until(lambda source=source: len(source.listener.messages) >= 50)  # type: ignore[misc]
            ticks = source.listener.ticks
            trial.until(lambda source=source, ticks=ticks: source.listener.ticks > ticks)  # type: ignore[misc]
            assert len(source.listener.messages) == 50
            trial.kafka.up = True
            trial.until(lambda: len(trial.readings()) == 400)
            assert max(source.listener.sizes) <= 50


def test_presence_is_told_and_taken_back(tmp_path: Path) -> None:
    """Protects those who watch us: online while we are, offline when we leave, and by the will when we vanish."""
    with MosquittoServer(tmp_path / "broker") as server, Trial(tmp_path / "watcher") as watcher:
        watching = Connected(Broker("127.0.0.1", "watcher", server.port), [Subscription("s/here")])
        watcher.run(watching)
        watcher.until(lambda: None in watcher.reasons)
        broker = Broker("127.0.0.1", "c", server.port, presence=Presence("s/here", b"1", b"0"))
        with Trial(tmp_path / "life") as trial:
            trial.run(Connected(broker, [Subscription("other")]))
            watcher.until(lambda: len(watching.listener.messages) == 1)
        watcher.until(lambda: len(watching.listener.messages) == 2)
        assert [message.payload for message in watching.listener.messages] == [b"1", b"0"]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of the broker's certificate."""
    authority = Authority(tmp_path_factory.mktemp("ours") / "ca")
    authority.server()
    return authority


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of clients' certificates; it has made one."""
    authority = Authority(tmp_path_factory.mktemp("clients") / "ca")
    authority.server("extendedKeyUsage=clientAuth")
    return authority


def secure(folder: Path, ours: Authority) -> MosquittoServer:
    files = f"certfile {ours.folder / 'server.pem'}\nkeyfile {ours.folder / 'server.key'}\n"
    return MosquittoServer(folder, listener=f"cafile {ours.file}\n{files}")


def test_tls_with_a_private_authority(ours: Authority, clients: Authority, tmp_path: Path) -> None:
    """Protects messages on the way: who is not trusted is not spoken to, and the reason is said."""
    with secure(tmp_path / "broker", ours) as server:
        with Trial(tmp_path / "life") as trial:
            source = Connected(Broker("127.0.0.1", "c", server.port, tls=Tls(ca_file=ours.file)))
            trial.run(source)
            trial.until(lambda: None in trial.reasons)
            assert source.listener.publish is not None
        stranger = ends_with(Broker("127.0.0.1", "c", server.port, tls=Tls(ca_file=clients.file)), tmp_path)
        assert isinstance(stranger, SourceUnavailable)
        assert "not trusted" in str(stranger)
        named = ends_with(Broker("localhost", "c", server.port, tls=Tls(ca_file=ours.file)), tmp_path)
        assert isinstance(named, SourceUnavailable)
        assert "localhost" in str(named)
        plain = ends_with(Broker("127.0.0.1", "c", server.port), tmp_path)
        assert isinstance(plain, SourceUnavailable)


def test_client_certificates(ours: Authority, clients: Authority, tmp_path: Path) -> None:
    """Protects brokers that know their clients by certificate, and a person who forgot to name it."""
    both = tmp_path / "both.pem"
    both.write_text(ours.file.read_text() + clients.file.read_text())
    files = f"certfile {ours.folder / 'server.pem'}\nkeyfile {ours.folder / 'server.key'}\n"
    mine = Tls(ours.file, clients.folder / "server.pem", clients.folder / "server.key")
    with MosquittoServer(tmp_path / "broker", listener=f"cafile {both}\n{files}require_certificate true\n") as server:
        with Trial(tmp_path / "life") as trial:
            trial.run(Connected(Broker("127.0.0.1", "c", server.port, tls=mine)))
            trial.until(lambda: None in trial.reasons)
        error = ends_with(Broker("127.0.0.1", "c", server.port, tls=Tls(ours.file)), tmp_path)
        assert isinstance(error, SourceRefused), error
        assert "tls.cert_file" in str(error)


@pytest.mark.parametrize(
    ("tls", "said"),
    [(Tls(ca_file=Path("no-such-file")), "tls.ca_file"), (Tls(cert_file=Path("no-such-file")), "tls.cert_file")],
)
def test_files_that_cannot_be_used_are_named(tls: Tls, said: str, tmp_path: Path) -> None:
    """Protects a person: which setting, which file."""
    error = ends_with(Broker("127.0.0.1", "c", tls=tls), tmp_path)
    assert isinstance(error, Misconfigured)
    assert said in str(error)
    assert "no-such-file" in str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(134, SourceRefused), (135, SourceRefused), (138, SourceRefused), (136, SourceUnavailable),
     (137, SourceUnavailable), (133, Misconfigured), (144, Misconfigured)],
)  # fmt: skip
def test_reasons_of_brokers_are_told_apart(code: int, kind: type[Exception]) -> None:
    """Protects from trying for ever what cannot work, and from giving up what passes."""
    error = connection_refused(Broker("broker", "me", username="u", password="hush"), code, "Some Reason")
    assert type(error) is kind
    assert "some reason" in str(error)
    assert "hush" not in str(error)


def test_large_messages_come_in_small_batches(tmp_path: Path) -> None:
    """Protects the memory: what is read at once is bounded in bytes too."""
    with MosquittoServer(tmp_path / "broker") as server:
        source = Connected(Broker("127.0.0.1", "c", server.port))
        with Trial(tmp_path / "before") as trial:
            trial.run(source)
            trial.until(lambda: None in trial.reasons)
        with Publisher(server.port) as publisher:
            publisher.tell([(f"s/{number}", b"%1000000d" % number) for number in range(20)])
        with Trial(tmp_path / "life") as trial:
            trial.run(source)
            trial.until(lambda: len(trial.readings()) == 20)
        assert max(source.listener.sizes) <= 6
