"""An agent of LangChain whose threads and memories survive a kill (``python langgraph_agent.py 42 "I like pizza."``)."""

import sys

from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.language_models import BaseChatModel

from session_manager.adapters.langgraph import LangGraphSaver, LangGraphStore


@tool
def remember(name: str, fact: str, runtime: ToolRuntime) -> str:
    """Remember a fact about the user."""
    assert runtime.store is not None
    runtime.store.put(("facts",), name, {"is": fact})
    return "noted"


def answer(
    chat: str, text: str, model: str | BaseChatModel = "openai:gpt-5-mini", storage: str = "sqlite:chats.db"
) -> str:
    with LangGraphSaver(storage) as saver, LangGraphStore(storage) as store:
        agent = create_agent(model, [remember], checkpointer=saver, store=store)
        said = agent.invoke({"messages": [("user", text)]}, {"configurable": {"thread_id": chat}})
    return str(said["messages"][-1].text)


if __name__ == "__main__":
    print(answer(*sys.argv[1:] or ("42", "I like pizza.")))
