"""What happens to every request before and after its route: framing, clocks, headers, access log."""
