"""Images from folders and images drawn here."""
