"""Everything that knows time, network and processes: Kafka, Faust, metrics, the command line."""
