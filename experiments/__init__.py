"""One thin module per experiment: read the config, call jaxsci, return a Summary. Nothing imports this package."""
