"""What a check or a gate says, in the formats that others read; one small module a format."""
