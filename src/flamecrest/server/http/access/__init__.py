"""What a request shows of its caller, and what a caller without valid credentials is told. Knows no operation."""
