"""How GANs train: losses, penalties, networks, cohorts and Algorithm 1, in torch and numpy alone."""
