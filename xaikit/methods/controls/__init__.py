"""Control maps that do not depend on the model, or score well without explaining it; methods must do better."""
