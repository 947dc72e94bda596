"""What a data set is worth: fidelity, label agreement, utility, privacy, fairness, one report."""
