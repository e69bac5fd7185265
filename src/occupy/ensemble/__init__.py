"""Sets of maps: what is there in each class of one experiment."""
