"""Transcripts of the Claude Agent SDK, driven by the program that it brings, whose model is a server of the test's."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ResultMessage,
    create_sdk_mcp_server,
    project_key_for_directory,
    query,
    tool,
)

from session_manager.adapters.claude_agent import ClaudeSessionStore
from session_manager.testing import Adapted

#: Ids of conversations that the program takes: it wants UUIDs.
IDS = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, name)) for name in ("chat", "another chat")}
NOISE = "<system-reminder>"


NOON = [{"type": "text", "text": "It is noon."}]
HELP = {"description": "help", "prompt": "You are asked.", "subagent_type": "helper"}


def calling(name, arguments=None):
    """Return the content of a message that calls a tool."""
    return [{"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": name, "input": arguments or {}}]


def told_in(messages):
    """Return the results of tools in messages."""
    blocks = [block for message in messages for block in message["content"] if isinstance(block, dict)]
    return [block for block in blocks if block["type"] == "tool_result"]


@tool("clock", "Tells the time.", {})
async def clock(arguments):
    return {"content": [{"type": "text", "text": "12:00"}]}


class Model(ThreadingHTTPServer):
    """An API on this machine: it calls the tool, and answers when it has the result."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.given = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, asked):
        """Return what the model says: the content of its message."""
        self.given.append(asked["messages"])
        return NOON if told_in(asked["messages"][-1:]) else calling("mcp__clock__clock")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def close(self):
        self.shutdown()
        self.server_close()


class ModelWithHelper(Model):
    """It has a subagent answer first."""

    def answer(self, asked):
        if "help me" in json.dumps(asked["messages"][0]):
            return NOON if told_in(asked["messages"]) else calling("Agent", HELP)
        return [{"type": "text", "text": "I help."}]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Say nothing."""

    def do_HEAD(self):
        self._reply(b"", "text/plain")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        blocks = self.server.answer(asked)
        self._reply(b"".join(_events(asked.get("model"), blocks)), "text/event-stream")

    def _reply(self, body, kind):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _events(model, blocks):
    usage = {"input_tokens": 1, "output_tokens": 1}
    whole = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": model, "content": []}
    yield _event("message_start", message={**whole, "stop_reason": None, "stop_sequence": None, "usage": usage})
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            start, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            arguments = json.dumps(block["input"])
            start, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": arguments}
        yield _event("content_block_start", index=index, content_block=start)
        yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    why = "end_turn" if blocks[-1]["type"] == "text" else "tool_use"
    yield _event("message_delta", delta={"stop_reason": why, "stop_sequence": None}, usage=usage)
    yield _event("message_stop")


def _event(kind, **rest):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **rest})}\n\n".encode()


def said_in(content):
    """Return what the user says in the content of a message, without what the program adds."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [block["text"] for block in blocks if block["type"] == "text" and not block["text"].startswith(NOISE)]


class AdaptedClaudeAgent(Adapted):
    def __init__(self, storage):
        self.store = ClaudeSessionStore(storage)
        self.home = os.path.dirname(urlsplit(storage).path) if isinstance(storage, str) else tempfile.gettempdir()
        self.model = None

    def key(self, conversation):
        name = IDS.get(conversation, conversation)
        return {"project_key": project_key_for_directory(self.home), "session_id": name}

    def options(self, **options):
        if self.model is None:
            self.model = Model()
        environment = {
            "HOME": self.home,
            "CLAUDE_CONFIG_DIR": os.path.join(self.home, f"config-{uuid.uuid4().hex}"),  # as on another machine
            "ANTHROPIC_BASE_URL": self.model.url,
            "ANTHROPIC_API_KEY": "none",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "NO_PROXY": "127.0.0.1",
        }
        return ClaudeAgentOptions(
            session_store=self.store,
            cwd=self.home,
            env=environment,
            model="claude-sonnet-4-5",
            setting_sources=[],
            mcp_servers={"clock": create_sdk_mcp_server("clock", tools=[clock])},
            allowed_tools=["mcp__clock__clock"],
            **{"tools": [], **options},
        )

    async def run(self, conversation, text):
        key = self.key(conversation)
        is_there = await self.store.load(key) is not None
        name = {"resume" if is_there else "session_id": key["session_id"]}
        assert await self.ran(text, self.options(**name)) == ["It is noon."]
        messages = self.model.given[-1]
        said = [text for message in messages if message["role"] == "user" for text in said_in(message["content"])]
        return len(said), len(told_in(messages))

    async def ran(self, text, options):
        """Return what the program answers, while it runs."""
        return [
            message.result
            async for message in query(prompt=text, options=options)
            if isinstance(message, ResultMessage)
        ]

    async def add(self, conversation, text):
        message = {"role": "user", "content": text}
        await self.store.append(
            self.key(conversation), [{"type": "user", "uuid": str(uuid.uuid4()), "message": message}]
        )

    async def texts(self, conversation):
        entries = await self.store.load(self.key(conversation)) or []
        asked = [entry for entry in entries if entry["type"] == "user" and not entry.get("isMeta")]
        return [text for entry in asked for text in said_in(entry["message"]["content"])]

    async def close(self):
        if self.model is not None:
            self.model.close()
        await self.store.close()
