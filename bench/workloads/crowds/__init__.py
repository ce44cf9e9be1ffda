"""Many clients at once: for minutes, in a crowd, on a cold server; and simulations from measured figures."""
