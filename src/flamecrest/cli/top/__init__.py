"""`flamecrest top`: a view of running gateways in the terminal, made from their metrics."""
