"""The viewer: one page in the browser, served on this computer only."""
