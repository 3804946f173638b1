CREATE TABLE _llm_migrations (name TEXT PRIMARY KEY, applied_at TEXT);
CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
CREATE TABLE responses (
    id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, prompt_json TEXT, options_json TEXT, response TEXT, response_json TEXT,
    conversation_id TEXT REFERENCES conversations(id), duration_ms INTEGER, datetime_utc TEXT,
    input_tokens INTEGER, output_tokens INTEGER, token_details TEXT, schema_id TEXT, resolved_model TEXT, reasoning TEXT
);
CREATE TABLE attachments (id TEXT PRIMARY KEY, type TEXT, path TEXT, url TEXT, content BLOB);
CREATE TABLE prompt_attachments (response_id TEXT, attachment_id TEXT, "order" INTEGER, PRIMARY KEY (response_id, attachment_id));
CREATE TABLE fragments (id INTEGER PRIMARY KEY, hash TEXT, content TEXT, datetime_utc TEXT, source TEXT);
CREATE TABLE prompt_fragments (response_id TEXT, fragment_id INTEGER, "order" INTEGER);
CREATE TABLE system_fragments (response_id TEXT, fragment_id INTEGER, "order" INTEGER);
CREATE TABLE tool_calls (id INTEGER PRIMARY KEY, response_id TEXT, tool_id INTEGER, name TEXT, arguments TEXT, tool_call_id TEXT);
CREATE TABLE tool_results (
    id INTEGER PRIMARY KEY, response_id TEXT, tool_id INTEGER, name TEXT, output TEXT, tool_call_id TEXT, instance_id INTEGER, exception TEXT
);
INSERT INTO conversations VALUES ('01b', 'Time', 'gpt-4o'), ('01a', 'Hi', 'gpt-4o'), ('01t', 'Continued', 'gpt-4o');
INSERT INTO responses (id, model, prompt, system, response, conversation_id, duration_ms, datetime_utc, input_tokens, options_json, reasoning) VALUES
    ('r2', 'gpt-4o', '', 'Be brief.', 'Noon.', '01b', 5, '2026-01-02T03:04:06.000001+00:00', 9, '{"temperature": 0.5}', 'Look.'),
    ('r1', 'gpt-4o', 'What time is it?', 'Be brief.', '', '01b', 5, '2026-01-02T03:04:05.000001+00:00', 3, NULL, NULL),
    ('r3', 'gpt-4o', 'Thanks.', NULL, 'Welcome.', '01b', 5, '2026-01-02T03:04:07.000001', 9, NULL, NULL),
    ('r0', 'gpt-4o', 'hi', NULL, 'Hello!', '01a', 5, '2025-01-02T03:04:07+00:00', NULL, NULL, NULL),
    ('r4', 'gpt-4o', 'old', NULL, 'answer', '01t', 5, '2025-01-02T03:04:07+00:00', NULL, NULL, NULL);
INSERT INTO tool_calls VALUES (1, 'r1', 1, 'now', '{"zone": "UTC"}', NULL), (2, 'r1', 1, 'now', '{"zone": "CET"}', NULL);
INSERT INTO tool_results VALUES (1, 'r2', 1, 'now', '12:00', NULL, NULL, NULL), (2, 'r2', 1, 'now', '13:00', NULL, NULL, 'ValueError');
INSERT INTO attachments VALUES
    ('at1', 'image/png', NULL, NULL, x'89504E47'), ('at2', 'image/png', NULL, 'https://example.org/x.png', NULL),
    ('at3', 'application/pdf', '/home/ada/x.pdf', NULL, NULL), ('at4', 'audio/wav', NULL, NULL, x'00');
INSERT INTO prompt_attachments VALUES ('r3', 'at2', 1), ('r3', 'at1', 0), ('r3', 'at3', 2), ('r3', 'at4', 3);
INSERT INTO fragments VALUES (1, 'h', 'A fragment.', NULL, NULL), (2, 'g', 'Be kind.', NULL, NULL);
INSERT INTO prompt_fragments VALUES ('r3', 1, 0);
INSERT INTO system_fragments VALUES ('r3', 2, 0);
CREATE TABLE messages (hash TEXT PRIMARY KEY, parent_hash TEXT REFERENCES messages(hash), role TEXT, provider_metadata TEXT);
CREATE TABLE parts (id INTEGER PRIMARY KEY, message_hash TEXT, position INTEGER, type TEXT, tool_name TEXT, text TEXT, payload TEXT);
CREATE TABLE threads (id TEXT PRIMARY KEY, name TEXT, tip_message_hash TEXT, forked_from TEXT, datetime_utc TEXT);
CREATE TABLE turns (
    id TEXT PRIMARY KEY, thread_id TEXT, parent_message_hash TEXT, tip_message_hash TEXT, model TEXT, resolved_model TEXT, options_json TEXT,
    schema_id TEXT, input_tokens INTEGER, output_tokens INTEGER, token_details TEXT, duration_ms INTEGER, datetime_utc TEXT, response_json TEXT
);
INSERT INTO threads VALUES ('01t', 'Continued', 'm6', NULL, '2026-02-02 03:04:05.000001+00:00'), ('01e', NULL, NULL, NULL, '2026-02-02 03:04:05+00:00');
INSERT INTO messages VALUES
    ('m0', NULL, 'system', NULL), ('m1', 'm0', 'user', NULL), ('m2', 'm1', 'assistant', '{"x": 1}'), ('m3', 'm2', 'tool', NULL),
    ('m4', 'm3', 'assistant', NULL), ('m5', 'm4', 'user', NULL), ('m6', 'm5', 'assistant', NULL), ('n6', 'm5', 'assistant', NULL);
INSERT INTO parts (message_hash, position, type, text, payload) VALUES
    ('m0', 0, 'text', 'Be brief.', NULL), ('m1', 1, 'attachment', NULL, '{"attachment": {"id": "at1"}}'),
    ('m1', 0, 'text', NULL, '{"text_ref": [{"literal": "See: "}, {"fragment": 1}]}'), ('m2', 0, 'reasoning', 'Two calls.', NULL),
    ('m2', 1, 'tool_call', NULL, '{"name": "now", "arguments": {"zone": "UTC"}, "tool_call_id": "c1"}'),
    ('m2', 2, 'tool_call', NULL, '{"name": "web", "arguments": {}, "tool_call_id": "s1", "server_executed": true}'),
    ('m3', 0, 'tool_result', NULL, '{"name": "now", "output": "12:00", "tool_call_id": "c1"}'), ('m4', 0, 'text', 'Noon.', NULL),
    ('m5', 0, 'text', 'Sure?', NULL), ('m6', 0, 'text', 'Yes.', NULL), ('n6', 0, 'text', 'No.', NULL);
INSERT INTO turns (id, thread_id, parent_message_hash, tip_message_hash, model, input_tokens, token_details, datetime_utc) VALUES
    ('t1', '01t', 'm1', 'm2', 'gpt-5', 3, '{"cached": 1}', '2026-02-02T03:04:05.000001+00:00'), ('t2', '01t', 'm3', 'm4', 'gpt-5', 9, NULL, '2026-02-02T03:04:06+00:00'),
    ('t3', '01t', 'm5', 'n6', 'gpt-5', 9, NULL, '2026-02-02T03:04:07+00:00'), ('t4', '01t', 'm5', 'm6', 'gpt-5', 9, NULL, '2026-02-02T03:04:08+00:00');
