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
VARIABLES = tuple(sorted(name for names in SERIES.values() for name in names))
STATIC = ("Age", "Gender", "Height", "Weight", "ICUType")  # known at admission
MODALITIES = (*SERIES, "static")
COLUMNS = {modality: [VARIABLES.index(name) for name in names] for modality, names in SERIES.items()}
