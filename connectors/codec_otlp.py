"""OTLP metrics (the bodies of HTTP ``/v1/metrics``), as protobuf or JSON, to readings; and the replies to them.

Written after https://opentelemetry.io/docs/specs/otlp/. Point attributes, and those attributes of the resource that the
mapping names for the entity, are a series' labels. A point's time is the end of what it tells of.

======================= ==============================================================================================
metric                  becomes
======================= ==============================================================================================
gauge                   its value under the metric's name
sum, delta              likewise: what was added since the point before
sum, cumulative         likewise: what was added since the counter began; where it is monotonic, as a
                        ``CounterReading`` with that start, of which the outlet makes what was added in between
histogram, exponential  ``NAME.count`` and, where there is one, ``NAME.sum``: delta as they come, cumulative as
histogram               counters; buckets are not read
summary                 likewise, as they come, for it does not say how it counts; quantiles are not read
no recorded value       a missing value (flag bit 0)
======================= ==============================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from connectors.codec_json import LONGEST_NAME
from connectors.label_mapping import LabelMapping, Place
from connectors.otlp_messages import CUMULATIVE, MESSAGES
from connectors.pushed import Pushed
from connectors.reading import CounterReading, Quality, Reading, Reason
from connectors.refusal import Refusal, shortened
from connectors.timestamps import in_range

DEFAULT_LABELS = LabelMapping(("host.name", "service.name", "service.instance.id"))
"""What resources are told apart by, in OpenTelemetry's semantic conventions."""

_NO_RECORDED_VALUE = 1
_LISTS = ("array_value", "kvlist_value", "bytes_value")


class Otlp:
    """Reads export requests.

    Args:
        labels: what makes entity and channel.
    """

    def __init__(self, labels: LabelMapping = DEFAULT_LABELS) -> None:
        self._labels = labels

    def read(self, body: bytes, *, json: bool) -> Iterator[Pushed]:
        """Yield what an export request holds, in pieces; points are counted from 1. Never raises for what is in it.

        A body that is no export request gives one refusal, numbered -1.
        """
        request = _parsed(body, json)
        if isinstance(request, Refusal):
            given = Pushed()
            given.refuse(request, body)
            yield given
            return
        reading = _Request(self._labels)
        for resource in request.resource_metrics:
            of_resource = _attributes(resource.resource.attributes)
            for metric in (m for scope in resource.scope_metrics for m in scope.metrics):
                for point in _points(metric):
                    reading.take(metric, point, of_resource)
                    if reading.pushed.full:
                        yield reading.give()
        if not reading.pushed.empty:
            yield reading.give()


def success(rejected: int, message: str, *, json: bool) -> bytes:
    """Return the body of a reply with status 200: how many points were refused, and why."""
    reply = MESSAGES["ExportMetricsServiceResponse"]()
    if rejected or message:
        reply.partial_success.rejected_data_points = rejected
        reply.partial_success.error_message = message
    return _written(reply, json)


def status(message: str, *, json: bool) -> bytes:
    """Return the body of a reply with another status."""
    return _written(MESSAGES["Status"](message=message), json)


def _written(message: Any, json: bool) -> bytes:
    return json_format.MessageToJson(message, indent=None).encode() if json else message.SerializeToString()


def _parsed(body: bytes, json: bool) -> Any | Refusal:
    request = MESSAGES["ExportMetricsServiceRequest"]()
    if json and not body.lstrip().startswith(b"{"):  # json_format takes any sequence for an object
        return Refusal(Reason.INVALID_JSON, "the body is no ExportMetricsServiceRequest as JSON: no object")
    try:
        if json:
            json_format.Parse(body.decode(), request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(body)
    except (DecodeError, UnicodeDecodeError) as error:
        return Refusal(Reason.WRONG_TYPE, f"the body is no ExportMetricsServiceRequest: {error}"[:300])
    except (json_format.ParseError, ValueError, RecursionError, OverflowError, TypeError, AttributeError) as error:
        # json_format lets through what Python's own conversions raise
        return Refusal(Reason.INVALID_JSON, f"the body is no ExportMetricsServiceRequest as JSON: {error}"[:300])
    return request


def _points(metric: Any) -> Iterator[Any]:
    kind = metric.WhichOneof("data")
    if kind is not None:
        yield from getattr(metric, kind).data_points


def _attributes(pairs: Any) -> dict[str, str | None]:
    """Return attributes as text; None for lists and the like."""
    return {pair.key: _text(pair.value) for pair in pairs}


def _text(value: Any) -> str | None:
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    if kind in _LISTS:
        return None
    found = getattr(value, kind)
    return str(found).lower() if kind == "bool_value" else str(found)


class _Request:
    """One request on its way into readings."""

    def __init__(self, labels: LabelMapping) -> None:
        self.pushed = Pushed()
        self._labels = labels
        self._number = 0

    def give(self) -> Pushed:
        given, self.pushed = self.pushed, Pushed()
        return given

    def take(self, metric: Any, point: Any, of_resource: dict[str, str | None]) -> None:
        """Read one point."""
        self._number += 1
        refusal = self._taken(metric, point, of_resource)
        if refusal is not None:
            place = f"metric {shortened(metric.name)}, point {self._number}"
            self.pushed.refuse(refusal, point.SerializeToString(), self._number, place)

    def _taken(self, metric: Any, point: Any, of_resource: dict[str, str | None]) -> Refusal | None:
        if not metric.name:
            return Refusal(Reason.MISSING_KEY, "the metric has no name, which is its channel")
        time_us = point.time_unix_nano // 1000
        if not time_us or not in_range(time_us):
            return Refusal(Reason.BAD_TIME, f"timeUnixNano {point.time_unix_nano} is not between 1970 and 2200")
        place = self._place(_attributes(point.attributes), of_resource)
        if isinstance(place, Refusal):
            return place
        values = _values(metric, point)
        if isinstance(values, Refusal):
            return values
        longest = max((len(place.channel(name)) for name in values), default=0)
        if longest > LONGEST_NAME:
            detail = f"its channel has {longest} characters; allowed: at most {LONGEST_NAME}; attributes can be ignored"
            return Refusal(Reason.WRONG_TYPE, detail)
        missing = bool(point.flags & _NO_RECORDED_VALUE)
        quality = Quality.MISSING if missing else Quality.UNKNOWN
        counters = not missing and _is_counter(metric)
        for name, value in values.items():
            channel, unit = place.channel(name), metric.unit[:64]
            if counters:
                since_us = point.start_time_unix_nano // 1000 or None
                reading = CounterReading(place.entity, channel, time_us, value, unit, quality, since_us=since_us)
                self.pushed.readings.append(reading)
            else:
                self.pushed.readings.append(
                    Reading(place.entity, channel, time_us, None if missing else value, unit, quality)
                )
        return None

    def _place(self, of_point: dict[str, str | None], of_resource: dict[str, str | None]) -> Place | Refusal:
        used = self._labels.entity or tuple(of_resource)
        labels = {name: of_resource[name] for name in used if name in of_resource} | of_point
        lists = [name for name, text in labels.items() if text is None and name not in self._labels.ignore]
        if lists:
            return Refusal(Reason.UNSUPPORTED, f"attribute {shortened(lists[0])} is a list or bytes")
        return self._labels.place({name: text for name, text in labels.items() if text is not None})


def _is_counter(metric: Any) -> bool:
    """Return whether its points say that they only grow until they are reset; a cumulative histogram's count and sum
    do by definition."""
    kind = metric.WhichOneof("data")
    if kind not in ("sum", "histogram", "exponential_histogram"):
        return False
    data = getattr(metric, kind)
    return data.aggregation_temporality == CUMULATIVE and (kind != "sum" or data.is_monotonic)


def _values(metric: Any, point: Any) -> dict[str, float] | Refusal:
    """Return channel names to values of one point."""
    kind = metric.WhichOneof("data")
    if kind in ("gauge", "sum"):
        which = point.WhichOneof("value")
        if which is None and not point.flags & _NO_RECORDED_VALUE:
            return Refusal(Reason.MISSING_KEY, "the point has neither asDouble nor asInt")
        values = {metric.name: float(getattr(point, which)) if which else 0.0}
    else:
        values = {f"{metric.name}.count": float(point.count)}
        if kind == "summary" or point.HasField("sum"):
            values[f"{metric.name}.sum"] = point.sum
    infinite = [name for name, value in values.items() if math.isinf(value)]
    if infinite:
        return Refusal(Reason.NOT_FINITE, f"{shortened(infinite[0])} is infinite; allowed: a finite number")
    return values
