"""What is measured: the challenge's variables, by modality."""

HOURS = 48
SERIES = {  # modality -> its variables, over time
    "vitals": ("DiasABP", "HR", "MAP", "NIDiasABP", "NIMAP", "NISysABP", "RespRate", "SysABP", "Temp"),
    "laboratory": (
        *(
            "ALP",
            "ALT",
            "AST",
            "Albumin",
            "BUN",
            "Bilirubin",
            "Cholesterol",
            "Creatinine",
            "Glucose",
            "HCO3",
            "HCT",
            "K",
        ),
        *("Lactate", "Mg", "Na", "PaCO2", "PaO2", "Platelets", "SaO2", "TroponinI", "TroponinT", "WBC", "pH"),
    ),
    "support": ("FiO2", "GCS", "MechVent", "Urine", "Weight"),  # consciousness, and what the staff does and collects
}
VARIABLES = tuple(name for names in SERIES.values() for name in names)
STATIC = ("Age", "Gender", "Height", "Weight", "ICUType")  # known at admission
MODALITIES = (*SERIES, "static")
COLUMNS = {  # modality -> where its variables are: next to each other, so that taking them copies nothing
    modality: slice(VARIABLES.index(names[0]), VARIABLES.index(names[-1]) + 1) for modality, names in SERIES.items()
}
