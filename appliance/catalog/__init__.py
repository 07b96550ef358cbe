"""What this box knows: every table, transaction and query. Nobody else writes SQL."""
