"""Compare measurements with predictions made before a GPU ran the kernels, and flag implausible ratios."""

import json
from pathlib import Path
from typing import Any

_FILE = json.loads((Path(__file__).parent / "predictions.json").read_text())
LABEL: str = _FILE["label"]
CONDITIONS: str = _FILE["conditions"]
TRUSTED_FROM = 32768  # tokens from which a ratio of two event times tells of the work, not of the launches


def beside(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each prediction for a result with its measured value, or None if it was not measured."""
    problem = result["problem"]
    if not _as_predicted_for(problem):
        return []
    rows = []
    for prediction in _FILE["predictions"]:
        if _concerns(prediction, problem):
            for kind in ("forward", "backward", "step"):
                if kind in prediction:
                    measured = _measured(prediction, kind, result)
                    row = {"what": _name(prediction), "pass": kind, "predicted": prediction[kind], "measured": measured}
                    rows.append(row)
    return rows


def suspicions(result: dict[str, Any]) -> list[str]:
    """Return forward speedups above what the amount of work allows, which suggest measurement errors."""
    bounds, problem = _FILE["suspicious_forward_speed_up"], result["problem"]
    if problem["dim"] != bounds["dim"]:
        return []
    kind = "forward" if problem["tokens"] >= TRUSTED_FROM else "graph_forward"
    found = []
    for other in ("wide", "compiled wide"):
        ratio = result["speed_up"].get(kind, {}).get(other)
        if ratio and ratio["median"] > bounds[other]:
            found.append(f"{kind}: {ratio['median']:.2f} x {other} is above {bounds[other]}: a measurement error?")
    return found


def _as_predicted_for(problem: dict[str, Any]) -> bool:
    split = (problem["num_groups"], problem["num_private"], problem["num_shared"])
    return problem["dtype"] == "bfloat16" and problem["hidden_dim"] == 2 * problem["dim"] and split == (3, 1, 3)


def _concerns(prediction: dict[str, Any], problem: dict[str, Any]) -> bool:
    return (
        prediction.get("dim", problem["dim"]) == problem["dim"]
        and prediction.get("min_dim", 0) <= problem["dim"] <= prediction.get("max_dim", problem["dim"])
        and prediction.get("min_tokens", 0) <= problem["tokens"] <= prediction.get("max_tokens", problem["tokens"])
    )


def _name(prediction: dict[str, Any]) -> str:
    match prediction["quantity"]:
        case "launches":
            return "launches, at most"
        case "kept_ratio":
            return f"{prediction['against']} / {prediction['of']}, activation memory, at least"
        case "wall_speed_up":
            return f"{prediction['against']} / modx, wall time"
        case "graph_speed_up":
            return f"{prediction['against']} / modx, replay time"
        case _:
            return f"{prediction['against']} / modx"


def _measured(prediction: dict[str, Any], kind: str, result: dict[str, Any]) -> float | None:
    reports, against = result["providers"], prediction.get("against")
    match prediction["quantity"]:
        case "launches":
            launches = reports["modx"].get(f"{kind}_launches")
            return launches and launches["kernels"]
        case "kept_ratio":
            ours, theirs = (reports[name].get("kept_bytes") for name in (prediction["of"], against))
            return theirs / ours if ours and theirs else None
        case quantity:
            times = result["speed_up"].get(quantity.replace("speed_up", "") + kind, {})
            return times[against]["median"] if against in times else None
