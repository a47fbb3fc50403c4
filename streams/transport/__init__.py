"""Partition batches in and out of Kafka: reader, ledger, producer, group commit."""
