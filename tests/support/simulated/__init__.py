"""A Kafka cluster, workers and time itself, simulated in one process and one thread; every choice comes from a seed."""
