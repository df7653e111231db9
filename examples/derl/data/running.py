"""Tell globals of a pickle that run code, or lead to it, from those that make data."""

_MODULES = {
    *("builtins.eval", "builtins.exec", "builtins.execfile", "builtins.compile", "builtins.open", "builtins.input"),
    *("builtins.__import__", "builtins.getattr", "builtins.setattr", "builtins.delattr", "builtins.apply"),
    *("builtins.globals", "builtins.locals", "builtins.vars", "builtins.breakpoint", "builtins.file", "builtins.help"),
    *("builtins.map", "builtins.filter", "builtins.reload", "builtins.exit", "builtins.quit", "builtins.memoryview"),
    *("os", "posix", "nt", "sys", "subprocess", "_posixsubprocess", "popen2", "commands", "pty", "signal", "shutil"),
    *("importlib", "imp", "runpy", "pkgutil", "zipimport", "pip", "ensurepip", "venv", "setuptools", "distutils"),
    *("socket", "ssl", "http", "httplib", "urllib", "urllib2", "requests", "ftplib", "smtplib", "webbrowser"),
    *("ctypes", "_ctypes", "cffi", "mmap", "tempfile", "threading", "_thread", "multiprocessing", "asyncio"),
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "torch.load", "torch.hub"),
    *("code", "codeop", "pdb", "bdb", "timeit", "trace", "profile", "cProfile", "doctest", "unittest", "test"),
    *("operator", "_operator", "types.FunctionType", "types.LambdaType", "types.CodeType", "types.MethodType"),
    *("numpy.load", "numpy.fromfile", "numpy.f2py", "numpy.distutils", "numpy.testing", "torch.serialization"),
    *("torch.jit", "torch.package", "torch.utils.cpp_extension", "torch.ops", "torch.classes", "pandas.read_pickle"),
    *("pandas.eval", "numpy.lib.npyio", "numpy.lib._npyio_impl", "numpy.ctypeslib", "copyreg.add_extension"),
}


def runs_code(module: str, name: str) -> bool:
    """Return whether a global is known to run code, to open files, or to lead to what does.

    Example:
        >>> runs_code("posix", "system"), runs_code("numpy", "ndarray.__init__.__globals__"), runs_code("uuid", "UUID")
        (True, True, False)
    """
    parts = f"{module}.{name}".split(".")
    if parts[0] == "__builtin__":
        parts[0] = "builtins"
    attributes = name.split(".")[1:]
    hidden = any(part.startswith("__") for part in attributes)  # __class__, __globals__ and the like
    return hidden or any(".".join(parts[:length]) in _MODULES for length in range(1, len(parts[:8]) + 1))
