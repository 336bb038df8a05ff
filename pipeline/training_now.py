"""`vedette train --now`: asks the running daemon to train, over HTTP, and says what came back."""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from pipeline.config import HttpConfig
from pipeline.exit_codes import OK, TEMPORARY, UNAVAILABLE, USAGE

_TIMEOUT_S = 15.0
_MOST_BYTES = 65_536


def ask_daemon(http: HttpConfig, stream: str, as_json: bool) -> int:
    """Ask the daemon that answers at ``http`` to train ``stream`` now; return the exit code.

    0: a job was started; 64: it knows no such stream; 69: no daemon answers, or it cannot; 75: a job runs already.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)
    scheme = "http" if http.cert_file is None else "https"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{http.port}"
    if http.port == 0:
        return _say("the config has http.port 0, which is another one at each start: the daemon cannot be found")
    path = f"/api/train?stream={quote(stream, safe='')}"
    request = Request(address + path, data=b"", headers={"X-Vedette-Request": "1"}, method="POST")
    token = next((token for token in http.tokens if token.role == "act"), None)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token.token.get_secret_value()}")
    try:
        opener = build_opener(ProxyHandler({}), *_tls(http))  # a proxy of the environment is not for our own machine
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            status, body = answer.status, answer.read(_MOST_BYTES)
    except HTTPError as error:
        status, body = error.code, error.read(_MOST_BYTES)
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        return _say(f"no daemon answers at {address} ({reason}); is it running with this config?")
    return _report(status, body, stream, address, as_json)


def _tls(http: HttpConfig) -> list[HTTPSHandler]:
    """Return what speaks TLS with our own daemon only: with the certificate that it is configured with."""
    if http.cert_file is None:
        return []
    import ssl

    context = ssl.create_default_context(cafile=str(http.cert_file))
    context.check_hostname = False  # it is reached by its address, and known by its certificate
    return [HTTPSHandler(context=context)]


def _report(status: int, body: bytes, stream: str, address: str, as_json: bool) -> int:
    try:
        answer = json.loads(body)
        if not isinstance(answer, dict):
            raise ValueError("is no object")
    except ValueError:
        return _say(f"{address} answered {status} {body[:200]!r}, which is not what a daemon says")
    if as_json:
        sys.stdout.write(json.dumps(answer) + "\n")
    if answer.get("accepted"):
        return OK if as_json else _say(f"stream {stream}: job {answer.get('job')} was started", OK)
    why = f"stream {stream}: no job was started: {answer.get('reason') or answer.get('error') or f'status {status}'}"
    if status == HTTPStatus.NOT_FOUND:
        return _say(why, USAGE)
    return _say(why, TEMPORARY if status == HTTPStatus.CONFLICT or answer.get("job") else UNAVAILABLE)


def _say(text: str, code: int = UNAVAILABLE) -> int:
    sys.stderr.write(f"vedette train: {text}\n")
    return code
