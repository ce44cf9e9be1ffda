"""Authorization: claim rules, OpenFGA, and how they are combined. It knows no settings, no HTTP server, no cluster."""
