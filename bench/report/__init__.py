"""Results as Markdown, HTML, plots and JSON."""
