"""Evidence: how many people chose an item lately, and whether more than before."""
