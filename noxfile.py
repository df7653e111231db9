"""Names for the usual commands, run in the current environment: ``nox -s tests``, ``nox -s tests -- -k fusion``."""

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "quick"]


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: errors, and files that it would format differently."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy on the library."""
    session.run("mypy", "--strict", "modx")


@nox.session
def quick(session: nox.Session) -> None:
    """The tests that are not slow, as pytest alone runs them."""
    session.run("pytest", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that are slow."""
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Every test."""
    session.run("pytest", "-m", "", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Every test, and the lines and branches that no test reaches."""
    session.run("pytest", "-m", "", "--cov", "--cov-report=term-missing:skip-covered", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Small mistakes put into the library one at a time, and those that no test sees."""
    session.run("mutmut", "run", *session.posargs)
    session.run("mutmut", "results")


@nox.session
def docs(session: nox.Session) -> None:
    """The pages, into docs/_build/html; a warning is an error."""
    session.run("sphinx-build", "--fail-on-warning", "--keep-going", "docs", "docs/_build/html", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """sdist and wheel, checked, and the README's block on the installed wheel."""
    session.run(".ci/wheel", external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks, kept in .benchmarks under this commit."""
    options = ("--numprocesses=0", "--benchmark-only", "--benchmark-autosave")
    session.run("pytest", *options, *(session.posargs or ["benchmarks"]))


@nox.session
def compare(session: nox.Session) -> None:
    """The benchmarks kept so far, side by side."""
    session.run("pytest-benchmark", "compare", "--group-by=fullname", "--columns=min,median,iqr", *session.posargs)


@nox.session
def profile(session: nox.Session) -> None:
    """Where a training step goes, block by block."""
    session.run("python", "benchmarks/profile_step.py", *session.posargs)
