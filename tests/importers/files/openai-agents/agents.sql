CREATE TABLE agent_sessions (
    session_id TEXT PRIMARY KEY,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE agent_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    message_data TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (session_id) REFERENCES agent_sessions (session_id) ON DELETE CASCADE
);
CREATE INDEX idx_agent_messages_session_id ON agent_messages (session_id, id);
INSERT INTO agent_sessions VALUES ('user_1', '2026-01-02 03:04:05', '2026-01-02 03:04:09'), ('empty', '2026-01-02 03:04:05', '2026-01-02 03:04:05');
INSERT INTO agent_messages (session_id, message_data, created_at) VALUES
    ('user_1', '{"role": "user", "content": "What time is it?"}', '2026-01-02 03:04:06'),
    ('user_1', '{"id": "rs_1", "type": "reasoning", "summary": []}', '2026-01-02 03:04:07'),
    ('user_1', '{"arguments": "{}", "call_id": "call_1", "name": "now", "type": "function_call", "id": "fc_1", "status": "completed"}', '2026-01-02 03:04:07'),
    ('user_1', '{"call_id": "call_1", "output": "12:00", "type": "function_call_output"}', '2026-01-02 03:04:08'),
    ('user_1', '{"id": "msg_1", "content": [{"annotations": [], "text": "Noon.", "type": "output_text", "logprobs": []}], "role": "assistant", "status": "completed", "type": "message"}', '2026-01-02 03:04:09'),
    ('user_1', '{"note": "neither a role nor a type"}', '2026-01-02 03:04:09');
