"""A chat that survives: run it twice, kill it anywhere, and each delivery is answered once."""

from session_manager import SessionManager


def ask_model(messages: list[dict[str, object]]) -> str:
    return f"I have read {len(messages)} messages."  # put the call of your model here


with SessionManager("quickstart-chats") as manager:  # a directory, which is created if it is not there
    for delivery in ("tg:1", "tg:1", "tg:2"):  # the first message is delivered twice
        with manager.turn("telegram:42", ref=delivery) as turn:  # the block is written whole, or not at all
            if not turn.done:  # it was not answered before
                turn.add_message("user", "Hello!")
                turn.add_message("assistant", ask_model(turn.get_context(system="Be kind.")))
        print(delivery, turn.messages[-1].content)  # it is durable: send it, and acknowledge
