"""The connections of one cluster: opened, shared, replaced, closed."""
