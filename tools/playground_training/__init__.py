"""Trains the miniature models of the playground: one file a model, `loop` trains any of them."""
