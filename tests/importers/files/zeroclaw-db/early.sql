CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session_key TEXT NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL, created_at TEXT NOT NULL
);
CREATE TABLE session_metadata (
    session_key TEXT PRIMARY KEY, created_at TEXT NOT NULL, last_activity TEXT NOT NULL, message_count INTEGER NOT NULL DEFAULT 0
);
CREATE VIRTUAL TABLE sessions_fts USING fts5(session_key, content, content=sessions, content_rowid=id);
INSERT INTO session_metadata VALUES ('old', '2025-01-02T03:04:05+00:00', '2025-01-02T03:04:06+00:00', 1);
INSERT INTO sessions (session_key, role, content, created_at) VALUES ('old', 'user', 'hi', '2025-01-02T03:04:05+00:00');
