"""The servers and programs that are measured, and the site that they work on."""
