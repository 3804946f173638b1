"""A chat that survives: run this twice, and the second run goes on where the first one was."""

from session_manager import SessionManager

KEY = "telegram:42"


def reply(context: list[dict[str, object]]) -> str:  # your model's answer to these messages
    return "Welcome back!" if len(context) > 2 else "Nice to meet you!"


with SessionManager("chats") as manager:  # the directory ./chats, created if it is not there
    visit = len(manager.get_history(KEY)) // 2 + 1
    with manager.turn(KEY) as turn:  # all of it is written when the block is left, or nothing
        turn.add_message("user", f"Hello, this is visit {visit}.")
        turn.add_message("assistant", reply(turn.get_context(system="Be kind.", max_messages=50)))
    # from here on, neither kill -9 nor a power cut can take the turn away
    for message in manager.get_history(KEY):
        print(f"{message.role}: {message.content}")
