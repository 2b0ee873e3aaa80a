"""Exact answers, and distances from them: what the samplers are measured against."""
