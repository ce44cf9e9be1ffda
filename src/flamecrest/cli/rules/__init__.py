"""Commands about authorization: what is decided for a token, and whether rules decide as expected."""
