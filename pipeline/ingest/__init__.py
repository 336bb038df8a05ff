"""The ingest process: sources side by side, each with a durable cursor, and one way to Kafka for all of them.

A reading's way: source → outlet (names, units, repeats) → encoding → delivering → Kafka, or the spool while Kafka is
away. What a source hears back, "durable", comes from the end of that way.
"""
