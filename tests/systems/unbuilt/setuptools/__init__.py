"""A name by which pip finds ``build_meta`` beside this file instead of setuptools."""
