"""The handcrafted systems: the baseline of AVEC 2016, and a trivial one."""
