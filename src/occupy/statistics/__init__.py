"""What is true of any map or set, once: noise, level of full, leakage, local context, posterior, interval."""
