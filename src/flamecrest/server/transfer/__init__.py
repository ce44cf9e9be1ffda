"""Moving data where a single request cannot."""
