"""The shapes that the dashboards' queries have: PromQL, and what each of its series is called."""

from __future__ import annotations

from typing import NamedTuple

RATE = "[$__rate_interval]"


class Query(NamedTuple):
    """A PromQL expression and how its series are called."""

    expr: str
    legend: str = ""

    def or_zero(self, of: str = "", each: str = "") -> Query:
        """Return it with zero where it has no answer: what has not happened since the start has no series.

        Args:
            of: a label; there is a zero for every value that it has. Empty: one zero, without labels.
            each: the series that have all values of that label.

        >>> Query("sum by (stream) (rate(late[5m]))").or_zero("stream", "entities").expr
        'sum by (stream) (rate(late[5m])) or on (stream) 0 * sum by (stream) (entities)'
        """
        zero = f"on ({of}) 0 * sum by ({of}) ({each})" if of else "vector(0)"
        return self._replace(expr=f"{self.expr} or {zero}")

    def with_legend(self, legend: str) -> Query:
        """Return it with series that are called otherwise."""
        return self._replace(legend=legend)


def chosen(*labels: str, only: str = "") -> str:
    """Return what selects the series whose ``labels`` are as the variables of the same names say, and as ``only`` says.

    >>> chosen("instance", "stream", only='tier="alert"')
    '{instance=~"$instance", stream=~"$stream", tier="alert"}'
    """
    matchers = [f'{label}=~"${label}"' for label in labels] + ([only] if only else [])
    return f"{{{', '.join(matchers)}}}"


def named(by: str = "", called: str = "") -> str:
    """Return a legend: the values of the labels ``by``, and what they are ``called``.

    >>> named("stream, reason"), named("stream", "late"), named(called="late")
    ('{{stream}} {{reason}}', '{{stream}}: late', 'late')
    """
    values = " ".join(f"{{{{{label}}}}}" for label in by.split(", ") if label)
    return ": ".join(part for part in (values, called) if part)


def folded(fold: str, expr: str, by: str = "") -> str:
    """Return ``expr`` folded by ``fold``, as ``sum``, with a series for each of the labels ``by``."""
    return f"{fold} by ({by}) ({expr})" if by else f"{fold}({expr})"


def total(series: str, by: str = "", called: str = "") -> Query:
    """Return the sum of gauges."""
    return Query(folded("sum", series, by), named(by, called))


def least(series: str, by: str = "", called: str = "") -> Query:
    """Return the least of gauges."""
    return Query(folded("min", series, by), named(by, called))


def largest(series: str, by: str = "", called: str = "") -> Query:
    """Return the largest of gauges."""
    return Query(folded("max", series, by), named(by, called))


def rate(counter: str, by: str = "", called: str = "") -> Query:
    """Return how much counters grow in a second, in the mean of the time that a point stands for."""
    return Query(folded("sum", f"rate({counter}{RATE})", by), named(by, called))


def increase(counter: str, by: str = "", called: str = "") -> Query:
    """Return how much counters grew in the time that a point stands for."""
    return Query(folded("sum", f"increase({counter}{RATE})", by), named(by, called))


def each_stream(query: Query, where: str) -> Query:
    """Return ``query``, which has a series for each stream, with zero for all streams that ``where`` selects."""
    return query.or_zero("stream", f"vedette_entities{where}")


def quantile(share: float, histogram: str, by: str = "", called: str = "") -> Query:
    """Return the value that ``share`` of what a histogram observed is below; ``histogram`` is its buckets."""
    buckets = folded("sum", f"rate({histogram}{RATE})", f"le, {by}" if by else "le")
    return Query(f"histogram_quantile({share:g}, {buckets})", named(by, called))


def age(timestamps: str) -> Query:
    """Return how many seconds ago the oldest of gauges was set to the time; 0 there is not yet."""
    return Query(f"time() - min({timestamps} > 0)")
