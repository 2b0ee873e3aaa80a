"""Tables with holes."""
