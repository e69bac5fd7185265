"""The packaged model, and a small part of it."""

import pytest

from occupy.simulation import demo_structure


@pytest.fixture(scope="session")
def demo_model():
    return demo_structure()


@pytest.fixture(scope="session")
def three_chains(demo_model):
    part = demo_model.clone()
    for name in [chain.name for chain in part[0] if chain.name not in ("G", "U", "V")]:
        part[0].remove_chain(name)
    return part
