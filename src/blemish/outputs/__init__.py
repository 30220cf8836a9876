"""What carries the record elsewhere: webhooks, MQTT, Modbus and CSV, each in its own thread, from the record's outbox."""
