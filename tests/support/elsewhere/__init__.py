"""A package of somebody else: what recipes name as 'elsewhere.module:Name'."""
