"""The main job in one terminal: ``make demo``. A synthetic clinic's morning, received, sealed, delivered, replicated,
through a cut of the connection to the cloud, and proved whole at the end."""
