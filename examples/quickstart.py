"""A chat that survives: run this twice, and the second run goes on where the first one was."""

from session_manager import SessionManager

KEY = "telegram:42"

with SessionManager("chats") as manager:  # the directory ./chats, created if it is not there
    visit = len(manager.get_history(KEY)) // 2 + 1
    manager.add_message(KEY, "user", f"Hello, this is visit {visit}.")
    manager.add_message(KEY, "assistant", "Welcome back!" if visit > 1 else "Nice to meet you!")
    manager.save(KEY)  # from here on, neither kill -9 nor a power cut can take it away

    for message in manager.get_history(KEY):
        print(f"{message.role}: {message.content}")
