"""Numbers in, numbers out: taste, media decoding, inference tasks. No Kafka, Faust, clock or asyncio."""
