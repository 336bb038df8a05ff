"""TLS to receivers: a private authority is trusted where it is named, and nobody else's certificate is."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.alertmanager import Alert, Alertmanager
from connectors.errors import Misconfigured, ReceiverUnavailable
from connectors.http_post import HttpPoster
from connectors.webhook import Webhook
from tests.http_receiver import HttpReceiver

ALERT = Alert({"alertname": "Anomaly"}, {"summary": "odd"}, "2026-03-04T05:06:07Z", "2026-03-04T05:16:07Z")
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
FOR_LOOPBACK = "subjectAltName=IP:127.0.0.1"


class Authority:
    """One that signs certificates, of our own making."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.file, self._key = folder / "ca.pem", folder / "ca.key"
        _openssl("req", "-x509", *KEY, "-keyout", self._key, "-out", self.file, "-subj", "/CN=Waterworks CA")

    def server(self, names: str = FOR_LOOPBACK) -> ssl.SSLContext:
        """Return what a server with a certificate for these names needs."""
        key, request, cert = (self.folder / name for name in ("server.key", "server.csr", "server.pem"))
        extensions = self.folder / "names"
        extensions.write_text(names)
        _openssl("req", *KEY[:-2], "-keyout", key, "-out", request, "-subj", "/CN=receiver")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key, "-CAcreateserial", "-days", "1",
            "-extfile", extensions, "-out", cert,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        return context


def _openssl(*words: str | Path) -> None:
    try:
        made = subprocess.run(["openssl", *words], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs openssl")
    assert made.returncode == 0, made.stderr


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the receiver's certificate is from."""
    return Authority(tmp_path_factory.mktemp("ours") / "ca")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another one."""
    return Authority(tmp_path_factory.mktemp("theirs") / "ca")


@pytest.fixture
def receiver(ours: Authority) -> Iterator[HttpReceiver]:
    """A receiver that speaks TLS, and only that."""
    made = HttpReceiver(ours.server())
    made.start()
    yield made
    made.close()


def test_a_private_authority_is_trusted_where_it_is_named(receiver: HttpReceiver, ours: Authority) -> None:
    """Protects sites with an authority of their own: webhook and Alertmanager reach their servers by TLS."""
    assert receiver.url.startswith("https://")
    webhook = Webhook(f"{receiver.url}/hook", "s3cret", 10.0, ours.file)
    alertmanager = Alertmanager(receiver.url, 10.0, ours.file)
    assert webhook.post(b"{}", "a:0", 1_800_000_000.0).status == 200
    assert alertmanager.post([ALERT]).status == 200
    assert [request.path for request in receiver.requests] == ["/hook", "/api/v2/alerts"]
    webhook.close()
    alertmanager.close()


def test_who_is_not_trusted_gets_nothing(receiver: HttpReceiver, theirs: Authority) -> None:
    """Protects alerts and signatures from whoever stands between: without the right authority nothing is sent."""
    for ca_file in (theirs.file, None):
        webhook = Webhook(receiver.url, "s3cret", 10.0, ca_file)
        with pytest.raises(ReceiverUnavailable, match=r"its certificate is not trusted: .*; ca_file"):
            webhook.post(b"{}", "a:0", 0.0)
        webhook.close()
    assert receiver.requests == []


def test_a_certificate_for_another_name_is_none(ours: Authority) -> None:
    """Protects from another server of the same authority: its certificate has to be for the address."""
    other = HttpReceiver(ours.server("subjectAltName=DNS:other.example"))
    other.start()
    webhook = Webhook(other.url, None, 10.0, ours.file)
    try:
        with pytest.raises(ReceiverUnavailable, match=r"is not trusted: IP address mismatch.*'127\.0\.0\.1'"):
            webhook.post(b"{}", "a:0", 0.0)
    finally:
        webhook.close()
        other.close()
    assert other.requests == []


def test_a_file_without_certificates_is_told_of_at_once(tmp_path: Path) -> None:
    """Protects the start from a wrong path: it is said which file, and what it has to hold."""
    with pytest.raises(Misconfigured, match=r"ca_file .*none\.pem cannot be used: No such file"):
        HttpPoster("https://127.0.0.1:1/", 1.0, tmp_path / "none.pem")
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(Misconfigured, match=r"ca_file .*text\.pem cannot be used: .*PEM"):
        Alertmanager("https://127.0.0.1:1/", 1.0, tmp_path / "text.pem")
