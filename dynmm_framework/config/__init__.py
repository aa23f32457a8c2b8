"""From a YAML file to a checked pipeline: parsing, validation with lines, JSON schema."""
