"""A saved model that answers raw input; imports nothing of ``train``, so that it runs where nobody trains."""
