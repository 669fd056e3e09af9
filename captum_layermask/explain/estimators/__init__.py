"""From the values of coalitions to attributions that know their own error, an estimator a file."""
