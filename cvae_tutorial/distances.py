"""How far draws are from an exact answer, and how far i.i.d. draws of the same number would be."""

from .truth.distances import Floor, energy_distance, iid_floor, kolmogorov_smirnov, mode_weight_error, wasserstein

__all__ = ["Floor", "energy_distance", "iid_floor", "kolmogorov_smirnov", "mode_weight_error", "wasserstein"]
