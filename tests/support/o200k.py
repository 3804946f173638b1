"""How many tokens texts really are in ``o200k_base``: figures of tiktoken 0.14.0, kept in ``o200k.json``.

The vocabulary is downloaded by tiktoken at its first use, which tests must not do, so the figures are kept. To take them
again, where tiktoken is installed and has its vocabulary (SHA-256 446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d,
which tiktoken checks):

    python -m tests.support.o200k          # prints the ratios of the estimate
    python -m tests.support.o200k --keep   # writes o200k.json, too

A message is 3 tokens for its frame, 1 for its role, and the tokens of its content, of its name, and of the names and arguments of
its tool calls, as OpenAI's cookbook counts ("How to count tokens with tiktoken"); what a tool call has beside these is not
documented, and is not counted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from session_manager import Message
from session_manager.history.tokens import estimate_text, estimate_tokens
from tests.support.places import CHATS
from tests.support.tool_outputs import TOOL_OUTPUTS

KEPT = Path(__file__).with_name("o200k.json")

#: Texts of the authors, in the languages and notations that the estimate says something about. The weights were fitted to
#: these, to the recorded conversations, and to `TOOL_OUTPUTS`.
TEXTS = {
    "English": (
        "The library keeps every conversation in memory and writes it to disk in one atomic step. When the "
        "power fails in the middle of a save, the old file is still there, byte for byte, and the next start "
        "finds it. Nobody has to repair anything by hand. What matters to the people who run such programs "
        "is not speed alone: a bot that answers quickly and forgets what was said yesterday is worth less "
        "than a slow one that remembers. That is why each promise is a sentence, and why each sentence has a "
        "test that fails when the promise is broken."
    ),
    "German": (
        "Die Bibliothek hält jedes Gespräch im Arbeitsspeicher und schreibt es in einem einzigen, "
        "unteilbaren Schritt auf die Festplatte. Fällt mitten im Speichern der Strom aus, so ist die alte "
        "Datei noch da, Byte für Byte, und der nächste Start findet sie wieder. Niemand muss etwas von Hand "
        "in Ordnung bringen. Wer solche Programme betreibt, dem kommt es nicht allein auf die "
        "Geschwindigkeit an: Ein Gesprächspartner, der schnell antwortet und vergessen hat, was gestern "
        "vereinbart wurde, ist weniger wert als ein langsamer, der sich erinnert. Darum ist jede Zusicherung "
        "ein Satz, und zu jedem Satz gehört eine Prüfung, die fehlschlägt, sobald die Zusicherung nicht mehr "
        "gilt. Sehr geehrte Frau Müller, hiermit bestätigen wir die Änderung Ihrer Flugbuchung; die "
        "Rückerstattung des Übergepäckzuschlags erfolgt innerhalb von fünf Werktagen."
    ),
    "Chinese": (
        "这个程序库把每一段对话保存在内存里，并且用一个不可分割的步骤写入磁盘。如果在保存的过程中突然断电，旧"
        "的文件仍然完整地留在那里，下一次启动时就能找到它，谁也不需要手工修复任何东西。对于运行这类程序的人来"
        "说，重要的不仅仅是速度：一个回答很快却忘记了昨天说过什么的机器人，不如一个慢一些但记得住的机器人。所"
        "以每一个承诺都是一句话，而每一句话都有一个测试，只要承诺被打破，测试就会失败。您好，我想把明天从北京"
        "飞往上海的航班改签到星期五下午，请问需要支付多少手续费？"
    ),
    "Traditional Chinese": (
        "這個程式庫把每一段對話保存在記憶體裡，並且用一個不可分割的步驟寫入磁碟。如果在儲存的過程中突然停電，"
        "舊的檔案仍然完整地留在那裡，下一次啟動時就能找到它，誰也不需要手動修復任何東西。您好，我想把明天從臺"
        "北飛往東京的航班改到星期五下午，請問需要支付多少手續費？"
    ),
    "Japanese": (
        "このライブラリはすべての会話をメモリに保持し、分割できない一つの手順でディスクに書き込みます。保存の"
        "途中で電源が切れても、古いファイルはそのまま残っているので、次に起動したときに見つけることができます"
        "。誰かが手作業で直す必要はありません。このようなプログラムを動かす人にとって大切なのは速さだけではあ"
        "りません。すぐに答えるけれども昨日の話を忘れてしまうボットより、少し遅くても覚えているボットのほうが"
        "役に立ちます。だから約束はすべて一つの文で書かれ、どの文にも、約束が破られたら失敗するテストがありま"
        "す。すみません、明日の東京発大阪行きの便を金曜日の午後に変更したいのですが、手数料はいくらかかります"
        "か。"
    ),
    "Korean": (
        "이 라이브러리는 모든 대화를 메모리에 보관하고, 나눌 수 없는 한 번의 단계로 디스크에 "
        "기록합니다. 저장하는 도중에 전원이 꺼져도 이전 파일은 그대로 남아 있으므로 다음에 "
        "시작할 때 다시 찾을 수 있습니다. 누구도 손으로 고칠 필요가 없습니다. 안녕하세요, "
        "내일 서울에서 부산으로 가는 항공편을 금요일 오후로 바꾸고 싶은데 수수료가 얼마나 되나요?"
    ),
    "Russian": (
        "Библиотека хранит каждый разговор в памяти и записывает его на диск за один "
        "неделимый шаг. Если во время сохранения отключится питание, старый файл "
        "останется на месте, и следующий запуск найдёт его. Никому не придётся ничего "
        "исправлять вручную. Здравствуйте, я хотел бы перенести завтрашний рейс из "
        "Москвы в Казань на пятницу, сколько это будет стоить?"
    ),
    "French": (
        "La bibliothèque garde chaque conversation en mémoire et l'écrit sur le disque en une seule étape "
        "indivisible. Si le courant est coupé au milieu d'un enregistrement, l'ancien fichier est toujours "
        "là, octet par octet, et le prochain démarrage le retrouve. Personne n'a besoin de réparer quoi que "
        "ce soit à la main."
    ),
    "Spanish": (
        "La biblioteca guarda cada conversación en la memoria y la escribe en el disco en un solo paso "
        "indivisible. Si se corta la luz en medio de una escritura, el archivo antiguo sigue ahí, byte a "
        "byte, y el siguiente arranque lo encuentra. Nadie tiene que reparar nada a mano."
    ),
    "Arabic": (
        "تحتفظ المكتبة بكل محادثة في الذاكرة وتكتبها على "
        "القرص في خطوة واحدة لا تتجزأ. إذا انقطع التيار "
        "الكهربائي أثناء الحفظ فإن الملف القديم يبقى كما "
        "هو، ويجده البرنامج عند التشغيل التالي."
    ),
    "Hindi": (
        "यह लाइब्रेरी हर बातचीत को मेमोरी में रखती है और "
        "उसे एक ही अविभाज्य चरण में डिस्क पर लिखती है। अगर "
        "सहेजते समय बिजली चली जाए, तो पुरानी फ़ाइल वैसी ही "
        "रहती है और अगली बार शुरू होने पर मिल जाती है।"
    ),
    "Thai": (
        "ไลบรารีนี้เก็บทุกบทสนทนาไว้ในหน่วยความจำและเขียนลงดิสก์ในขั้นตอนเดียวที่แบ่งแยกไม่ได้ หากไฟดับระหว่างการบันทึก ไฟล์เก่าก็ยังอยู่ครบทุกไบต์"
    ),
    "Python": (
        'def fold(session: Session, changes: Iterable[Change]) -> Session:\n    """Return the session after '
        'all of the changes, in order."""\n    return reduce(apply, changes, session)\n\n\nclass Health:\n    def '
        "__init__(self, store: str, resident: int) -> None:\n        self.store = store\n        self.resident "
        "= resident\n        if not isinstance(resident, int) or resident < 0:\n            raise "
        'ValueError(f"resident must be a count, not {resident!r}")\n'
    ),
    "JSON": (
        '{"reservation_id": "4WQ150", "user_id": "chen_jackson_3290", "origin": "DFW", "destination": "LAX", '
        '"flights": [{"flight_number": "HAT170", "date": "2024-05-22", "price": 1183, "status": '
        '"available"}, {"flight_number": "HAT022", "date": "2024-05-26", "price": 97.5, "status": '
        '"delayed"}], "passengers": [{"first_name": "Chen", "last_name": "Jackson", "dob": "1956-07-07"}], '
        '"created_at": "2024-05-02T03:10:19", "total_baggages": 5}'
    ),
    "Emoji": ("🎉🎉 Wow 😍 that's great 👍🏽 see you 🛫✈️ tomorrow 👩\u200d👩\u200d👧\u200d👦 ❤️ 🇩🇪"),
}

#: Texts which the weights were not fitted to: people writing to a bot, news, instructions.
UNSEEN = {
    "English, a chat": (
        "hey, quick question - my order #48213 still says 'processing', it's been like 9 days?? can u check pls. "
        "Also I'd rather have it sent to my office instead of home, if that's not too much trouble. Thanks a lot!"
    ),
    "German, a chat": (
        "Hallo, ich hab gestern bei euch einen Kinderwagen bestellt und grad gesehen, dass ich die falsche Farbe angeklickt "
        "hab. Könnt ihr das noch ändern, oder muss ich die Bestellung stornieren? Wär super, wenn's bis Donnerstag da wäre, "
        "da fahren wir nämlich in den Urlaub. Liebe Grüße aus Gütersloh!"
    ),
    "German, an office": (
        "Gemäß § 312g BGB steht Ihnen bei Fernabsatzverträgen ein Widerrufsrecht zu. Die Widerrufsfrist beträgt vierzehn Tage ab "
        "dem Tag, an dem Sie die Waren in Besitz genommen haben. Zur Wahrung der Frist genügt die rechtzeitige Absendung "
        "Ihrer Widerrufserklärung; die Rücksendekosten trägt das Unternehmen, sofern nichts anderes vereinbart wurde."
    ),
    "Chinese, a chat": (
        "你好呀，我前天在你们店里买的那双白色运动鞋，今天收到发现尺码不对，我要的是三十九码，结果寄来的是四十一码。可以换吗？"
        "运费谁出啊？另外快递盒子也压坏了，麻烦你们尽快处理一下，周末我还要穿着去爬山呢，谢谢！"
    ),
    "Chinese, news": (
        "据气象部门预报，受冷空气影响，未来三天华北地区气温将下降八到十摄氏度，部分山区可能出现降雪。交通管理部门提醒广大市民"
        "注意道路结冰，尽量选择公共交通工具出行。截至昨天下午六点，已有一百二十多个航班延误或者取消，机场方面正在全力疏导旅客。"
    ),
    "Japanese, a chat": (
        "こんにちは！先週そちらで予約したホテルのことなんですが、急に仕事が入っちゃって行けなくなりました…。キャンセル料って"
        "かかりますか？できれば来月に日程を変えたいです。子ども用のベッドも一つお願いできると助かります。よろしくお願いします🙏"
    ),
    "Japanese, news": (
        "気象庁によると、台風十二号は明日の朝にかけて九州南部に接近し、その後は東へ進む見通しである。同庁は、土砂災害や河川の"
        "氾濫に厳重に警戒するよう呼びかけている。鉄道各社は一部の区間で計画運休を実施すると発表した。"
    ),
    "Korean, a chat": (
        "안녕하세요~ 어제 주문한 원피스 아직 배송 준비 중이던데 혹시 오늘 안에 출발하나요? 토요일에 결혼식이 있어서 꼭 금요일까지는 "
        "받아야 하거든요. 안 되면 그냥 취소해 주세요. 감사합니다!"
    ),
    "A log": (
        "2026-01-14T09:31:07.412Z ERROR worker-3 request_id=7f3a9c1e status=502 upstream=10.0.4.17:8443 elapsed_ms=30012 "
        'retry=2/5 msg="upstream timed out"\n2026-01-14T09:31:08.020Z INFO worker-3 request_id=7f3a9c1e status=200 elapsed_ms=588\n'
    ),
    "A table": "| name | qty | price |\n|---|---:|---:|\n| apples | 12 | 3.40 |\n| pears | 7 | 2.95 |\n| quinces | 1 | 0.80 |\n",
}


def real_tokens(value: dict[str, Any], count: Callable[[str], int]) -> int:
    """Return how many tokens a message in OpenAI's chat format is."""
    texts = [value.get("content"), value.get("name")]
    for call in value.get("tool_calls") or ():
        texts += [call["function"]["name"], call["function"]["arguments"]]
    return 4 + sum(count(text) for text in texts if text)


def chats() -> dict[str, list[dict[str, Any]]]:
    """Return the recorded conversations by their key; nothing if they are not there."""
    lines = CHATS.read_text().splitlines() if CHATS.exists() else []
    return {one["key"]: one["messages"] for one in map(json.loads, lines)}


def measured() -> dict[str, dict[str, int]]:
    """Return the real figures, by tiktoken."""
    import tiktoken

    encoding = tiktoken.get_encoding("o200k_base")

    def count(text: str) -> int:
        return len(encoding.encode(text, disallowed_special=()))

    return {
        "chats": {key: sum(real_tokens(one, count) for one in messages) for key, messages in chats().items()},
        "chats without their system prompt": {
            key: sum(real_tokens(one, count) for one in messages[1:]) for key, messages in chats().items()
        },
        "texts": {name: count(text) for name, text in {**TEXTS, **TOOL_OUTPUTS, **UNSEEN}.items()},
    }


def ratios(figures: dict[str, dict[str, int]]) -> dict[str, dict[str, float]]:
    """Return the estimate over the real figure, of all that there are figures of."""

    def ratio(key: str, messages: list[dict[str, Any]], real: dict[str, int]) -> float:
        return sum(estimate_tokens(Message.from_dict(one)) for one in messages) / real[key]

    whole, without = figures["chats"], figures["chats without their system prompt"]
    texts = {**TEXTS, **TOOL_OUTPUTS, **UNSEEN}
    return {
        "chats": {key: ratio(key, messages, whole) for key, messages in chats().items()},
        "chats without their system prompt": {k: ratio(k, messages[1:], without) for k, messages in chats().items()},
        "texts": {name: estimate_text(texts[name]) / real for name, real in figures["texts"].items()},
    }


def report() -> None:
    """Measure, and print the ratios."""
    figures = measured()
    if "--keep" in sys.argv:
        KEPT.write_text(json.dumps(figures, indent=1) + "\n")
    found = ratios(figures)
    for name, ratio in found.pop("texts").items():
        print(f"{name:20} {figures['texts'][name]:6} tokens, estimate / real {ratio:.2f}")
    for name, of in found.items():
        ordered = sorted(of.values()) or [float("nan")]
        print(f"{len(of)} {name}: {ordered[0]:.2f} to {ordered[-1]:.2f}, median {ordered[len(ordered) // 2]:.2f}")


if __name__ == "__main__":
    report()
