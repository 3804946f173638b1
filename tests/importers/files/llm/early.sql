CREATE TABLE _llm_migrations (name TEXT PRIMARY KEY, applied_at TEXT);
CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
CREATE TABLE responses (
    id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, prompt_json TEXT, options_json TEXT, response TEXT, response_json TEXT,
    conversation_id TEXT REFERENCES conversations(id), duration_ms INTEGER, datetime_utc TEXT
);
INSERT INTO conversations VALUES ('02a', 'Hi', 'gpt-3.5-turbo');
INSERT INTO responses VALUES ('q1', 'gpt-3.5-turbo', 'hi', NULL, '{"messages": []}', '{}', 'Hello!', '{}', '02a', 5, '2023-07-02T03:04:07.000001');
