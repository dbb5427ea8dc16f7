"""Other packages' methods behind our `Method`: a file a package.

    METHODS.get("captum/saliency")      finds captum.py here, which imports captum

Each file generates one class for each public method of its package and registers it as `package/method-name`.
Nothing here is imported before such a name is asked for.
"""
