"""A made-up batch system, tinyq, and the dialect that the recipe for a new scheduler leads to."""
