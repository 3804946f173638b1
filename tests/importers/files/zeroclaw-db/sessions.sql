CREATE TABLE sessions (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    session_key TEXT NOT NULL,
    role        TEXT NOT NULL,
    content     TEXT NOT NULL,
    created_at  TEXT NOT NULL
);
CREATE INDEX idx_sessions_key ON sessions(session_key);
CREATE INDEX idx_sessions_key_id ON sessions(session_key, id);
CREATE TABLE session_metadata (
    session_key  TEXT PRIMARY KEY,
    created_at   TEXT NOT NULL,
    last_activity TEXT NOT NULL,
    message_count INTEGER NOT NULL DEFAULT 0,
    name         TEXT
);
CREATE VIRTUAL TABLE sessions_fts USING fts5(session_key, content, content=sessions, content_rowid=id);
ALTER TABLE session_metadata ADD COLUMN state TEXT NOT NULL DEFAULT 'idle';
ALTER TABLE session_metadata ADD COLUMN turn_id TEXT;
ALTER TABLE session_metadata ADD COLUMN turn_started_at TEXT;
ALTER TABLE session_metadata ADD COLUMN agent_alias TEXT;
ALTER TABLE session_metadata ADD COLUMN channel_id TEXT;
ALTER TABLE session_metadata ADD COLUMN room_id TEXT;
ALTER TABLE session_metadata ADD COLUMN sender_id TEXT;
ALTER TABLE sessions ADD COLUMN msg_id TEXT;
ALTER TABLE sessions ADD COLUMN parent_id TEXT;
ALTER TABLE sessions ADD COLUMN author_id TEXT;
ALTER TABLE sessions ADD COLUMN node_status TEXT;
ALTER TABLE sessions ADD COLUMN node_meta TEXT;
ALTER TABLE session_metadata ADD COLUMN active_leaf TEXT;
INSERT INTO session_metadata (session_key, created_at, last_activity, message_count, name, state, turn_id, agent_alias, channel_id) VALUES
    ('telegram:43', '2026-01-02T03:04:05.123456789+00:00', '2026-01-03T03:04:05+02:00', 99, 'Trip', 'running', 't1', 'clamps', 'telegram.clamps');
INSERT INTO sessions (session_key, role, content, created_at) VALUES
    ('telegram:43', 'user', 'What''s in /tmp?', '2026-01-02T03:04:05.2+00:00'),
    ('cron', 'user', 'no metadata', '2026-01-02T03:04:06+00:00'),
    ('telegram:43', 'assistant', '{"content":null,"tool_calls":[{"arguments":"{}","id":"call_1","name":"shell"}]}', '2026-01-02T03:04:07+00:00'),
    ('telegram:43', 'tool', '{"content":"a.txt","tool_call_id":"call_1"}', '2026-01-02T03:04:08+00:00'),
    ('telegram:43', 'assistant', 'a.txt', 'no time');
INSERT INTO session_metadata (session_key, created_at, last_activity, active_leaf) VALUES
    ('tree', '2026-01-02T00:00:00+00:00', '2026-01-02T00:00:09+00:00', 'm3');
INSERT INTO sessions (session_key, role, content, created_at, msg_id, parent_id, node_meta) VALUES
    ('tree', 'user', 'root', '2026-01-02T00:00:01+00:00', 'm1', NULL, '{"x":1}'),
    ('tree', 'assistant', 'first try', '2026-01-02T00:00:02+00:00', 'm2', 'm1', NULL),
    ('tree', 'assistant', 'second try', '2026-01-02T00:00:03+00:00', 'm3', 'm1', NULL),
    ('tree', 'user', 'to the first', '2026-01-02T00:00:04+00:00', 'm4', 'm2', NULL);
