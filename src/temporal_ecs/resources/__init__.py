"""One file for each kind of AWS thing; each ends with `declare(config)`."""
