"""What tests and benchmarks need of the machine that they run on."""
