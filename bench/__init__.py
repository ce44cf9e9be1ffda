"""The benchmark: the gateway beside baselines, as ratios within one run (`python -m bench`, see README.md)."""
