"""All that touches the outside: sources bring records in, codecs turn bytes into readings, sinks carry alerts out."""
