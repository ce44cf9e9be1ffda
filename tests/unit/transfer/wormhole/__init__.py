"""Jobs of magic-wormhole, with a toy in its place that has its command line and prints its lines."""
