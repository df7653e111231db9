"""In-hospital death from 48 hours of intensive care, where most measurements are missing by nature."""
