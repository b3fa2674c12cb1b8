"""What to run, and running it: study files, plans, Ray Tune, checkpoints, MLflow, the command line."""
