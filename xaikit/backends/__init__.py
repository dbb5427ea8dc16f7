"""Methods of other packages as xaikit `Method` classes, one file per package.

    METHODS.get("captum/saliency")      imports captum.py from this folder, which imports captum

Each file generates a class for every public method of its package and registers it as `package/method-name`. The file
is imported only when such a name is looked up.
"""
