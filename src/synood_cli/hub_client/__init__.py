"""A client of a model hub that need not be trusted: what heads and models are fetched with."""
