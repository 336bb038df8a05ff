"""The messages of OTLP metrics, as far as they are read; numbers and names are those of opentelemetry-proto 1.x."""

from __future__ import annotations

from connectors.protobuf_messages import message_classes

_STAMPS = {"start_time_unix_nano": (2, "fixed64"), "time_unix_nano": (3, "fixed64")}
_TEMPORALITY = {"aggregation_temporality": (2, "AggregationTemporality")}
_COUNT_AND_SUM = {"count": (4, "fixed64"), "sum": (5, "double?")}

MESSAGES = message_classes(
    "opentelemetry.proto",
    {
        "ExportMetricsServiceRequest": {"resource_metrics": (1, "ResourceMetrics*")},
        "ResourceMetrics": {"resource": (1, "Resource"), "scope_metrics": (2, "ScopeMetrics*")},
        "Resource": {"attributes": (1, "KeyValue*")},
        "ScopeMetrics": {"metrics": (2, "Metric*")},
        "Metric": {
            "name": (1, "string"), "unit": (3, "string"), "gauge": (5, "Gauge"), "sum": (7, "Sum"),
            "histogram": (9, "Histogram"), "exponential_histogram": (10, "ExponentialHistogram"),
            "summary": (11, "Summary"),
        },
        "Gauge": {"data_points": (1, "NumberDataPoint*")},
        "Sum": _TEMPORALITY | {"data_points": (1, "NumberDataPoint*"), "is_monotonic": (3, "bool")},
        "Histogram": _TEMPORALITY | {"data_points": (1, "HistogramDataPoint*")},
        "ExponentialHistogram": _TEMPORALITY | {"data_points": (1, "ExponentialHistogramDataPoint*")},
        "Summary": {"data_points": (1, "SummaryDataPoint*")},
        "NumberDataPoint": _STAMPS | {
            "as_double": (4, "double"), "as_int": (6, "sfixed64"), "attributes": (7, "KeyValue*"),
            "flags": (8, "uint32"),
        },
        "HistogramDataPoint": _STAMPS | _COUNT_AND_SUM | {"attributes": (9, "KeyValue*"), "flags": (10, "uint32")},
        "ExponentialHistogramDataPoint": _STAMPS | _COUNT_AND_SUM | {
            "attributes": (1, "KeyValue*"), "flags": (10, "uint32"),
        },
        "SummaryDataPoint": _STAMPS | {
            "count": (4, "fixed64"), "sum": (5, "double"), "attributes": (7, "KeyValue*"), "flags": (8, "uint32"),
        },
        "KeyValue": {"key": (1, "string"), "value": (2, "AnyValue")},
        "AnyValue": {
            "string_value": (1, "string"), "bool_value": (2, "bool"), "int_value": (3, "int64"),
            "double_value": (4, "double"), "array_value": (5, "Anything"), "kvlist_value": (6, "Anything"),
            "bytes_value": (7, "bytes"),
        },
        "Anything": {},
        "ExportMetricsServiceResponse": {"partial_success": (1, "ExportMetricsPartialSuccess")},
        "ExportMetricsPartialSuccess": {"rejected_data_points": (1, "int64"), "error_message": (2, "string")},
        "Status": {"code": (1, "int32"), "message": (2, "string")},
    },
    {
        "Metric.data": ("gauge", "sum", "histogram", "exponential_histogram", "summary"),
        "NumberDataPoint.value": ("as_double", "as_int"),
        "AnyValue.value": (
            "string_value", "bool_value", "int_value", "double_value", "array_value", "kvlist_value", "bytes_value",
        ),
    },
    {
        "AggregationTemporality": (
            "AGGREGATION_TEMPORALITY_UNSPECIFIED", "AGGREGATION_TEMPORALITY_DELTA",
            "AGGREGATION_TEMPORALITY_CUMULATIVE",
        ),
    },
)  # fmt: skip
"""Name to class."""
CUMULATIVE = 2
"""Of ``AggregationTemporality``: since the counter began, not since the point before."""
