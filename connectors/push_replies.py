"""Answers to pushed bodies, as each kind of sender expects them.

================ ================ =================================================== ==============================
path             all taken        some or none taken                                  why so
================ ================ =================================================== ==============================
/api/readings    200              200 with the refused, 422 if none was taken         ours
/airrohr, /v1/   200              200 with the refused, 422 if none was taken         stations look at the status only
push-sensor-data
/write,          204              400 ``partial write: …``, the first bad ``line``    as InfluxDB does: clients drop
/api/v2/write                                                                         the bad and do not send again
/api/v1/write    204              400 with the reasons                                Prometheus never repeats a 400
/v1/metrics      200              200 with ``partialSuccess``; 400 for no request     OTLP's specification
================ ================ =================================================== ==============================

Of a body that begins with ten thousand rows none of which can be read, the rest is refused as a whole: the message, or
a ``note`` where refusals are listed, says so first.

Everywhere: 401 without a known secret, 408, 413, 415; 429 and 503 with ``Retry-After``: nothing of it, or not all, is
durable, and all of it is to be sent again. Remote-write has 503 in the place of 429: Prometheus drops what gets a 429
unless its ``retry_on_http_429`` says otherwise, and repeats after a 503.
"""

from __future__ import annotations

import json
import math

from fastapi.responses import Response

from connectors import codec_otlp
from connectors.push_body import Trouble
from connectors.push_taking import Outcome
from connectors.reading import Rejected

_INFLUX_CODES = {
    401: "unauthorized", 413: "request too large", 429: "too many requests", 503: "unavailable", 500: "internal error",
}  # fmt: skip
_PROTOBUF = "application/x-protobuf"
_JSON = "application/json"


def listed(outcome: Outcome) -> Response:
    """Answer with what was accepted, and each refusal."""
    status = 422 if outcome.rejected and not outcome.accepted else 200
    note = {"note": outcome.note} if outcome.note else {}
    return _json(status, {"accepted": outcome.accepted, "rejected": outcome.rejected} | note
                 | {"reasons": [_reason(one) for one in outcome.told]})  # fmt: skip


def influx(outcome: Outcome) -> Response:
    """Answer as InfluxDB does."""
    if not outcome.rejected:
        return Response(status_code=204)
    text = f"partial write: {outcome.said()} dropped={outcome.rejected}"
    first = outcome.told[0].offset if outcome.told else -1
    told = {"code": "invalid", "message": text, "error": text, "accepted": outcome.accepted}
    return _json(400, told | ({"line": first} if first > 0 else {}))


def plain(outcome: Outcome) -> Response:
    """Answer as receivers of remote-write do: in words that land in Prometheus' log."""
    if not outcome.rejected:
        return Response(status_code=204)
    text = f"{outcome.accepted} samples taken, {outcome.rejected} refused: {outcome.said()}"
    return Response(f"{text}\n", 400, media_type="text/plain")


def otlp(outcome: Outcome, as_json: bool) -> Response:
    """Answer as the specification of OTLP says."""
    if not outcome.accepted and any(one.offset < 0 for one in outcome.told):  # the body was no request at all
        return _otlp(400, codec_otlp.status(outcome.said(), json=as_json), as_json)
    text = outcome.said() if outcome.rejected else ""
    return _otlp(200, codec_otlp.success(outcome.rejected, text, json=as_json), as_json)


def trouble(error: Trouble, path: str, content_type: str) -> Response:
    """Answer with what stands in the way, in the words of those who send to ``path``."""
    if path == "/v1/metrics":
        as_json = _PROTOBUF not in content_type
        response = _otlp(error.status, codec_otlp.status(str(error), json=as_json), as_json)
    elif path in ("/write", "/api/v2/write", "/query"):
        code = _INFLUX_CODES.get(error.status, "invalid")
        response = _json(error.status, {"code": code, "message": str(error), "error": str(error)})
    elif path == "/api/v1/write":
        response = Response(f"{error}\n", 503 if error.status == 429 else error.status, media_type="text/plain")
    else:
        response = _json(error.status, {"error": str(error)})
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="vedette", Basic realm="vedette"'
    return response


def _reason(one: Rejected) -> dict[str, object]:
    told: dict[str, object] = {"reason": str(one.reason), "detail": one.detail}
    return told | ({"number": one.offset} if one.offset > 0 else {})


def _json(status: int, document: dict[str, object]) -> Response:
    return Response(json.dumps(document), status, media_type=_JSON)


def _otlp(status: int, body: bytes, as_json: bool) -> Response:
    return Response(body, status, media_type=_JSON if as_json else _PROTOBUF)
