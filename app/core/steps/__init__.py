"""Steps: a user's functions that run before or after a model, with services that they request by type.

Users import `step`, `factory` and `Refused` from here.
"""

from app.core.steps.definitions import Factory, Refused, Step, StepModule, factory, found_in, load, step

__all__ = ["Factory", "Refused", "Step", "StepModule", "factory", "found_in", "load", "step"]
