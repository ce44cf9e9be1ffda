"""The metrics of a gateway, in the text formats of Prometheus and OpenMetrics."""
