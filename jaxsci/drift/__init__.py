"""Online changepoint detection and models that adapt: performance models that notice when the machine changed."""
