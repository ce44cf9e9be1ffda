"""The parts of the benchmark that decide and show; the measuring itself is not tested."""
