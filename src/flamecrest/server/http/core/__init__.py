"""What every route needs: the request and its caller, parameters, responses, errors, routing."""
