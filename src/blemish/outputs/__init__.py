"""What carries the record elsewhere: webhooks, MQTT, Modbus and CSV, each in a thread, from its outbox."""
