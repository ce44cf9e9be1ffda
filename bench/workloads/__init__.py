"""One module per kind of load, and the catalogue of all of them."""
