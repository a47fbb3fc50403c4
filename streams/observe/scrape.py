"""Reading a worker's metrics page, as Prometheus would."""

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def samples(page: str) -> Iterator[Sample]:
    """Every sample of a page in the text format: name, labels, value."""
    for family in text_string_to_metric_families(page):
        yield from family.samples
