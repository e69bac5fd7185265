"""Job types and readers for the programs that structural biologists work in: Doppio, cryoSPARC, napari."""
