"""INT8 models: what values occur (``observe``), and layers on bytes (``quantise``)."""
