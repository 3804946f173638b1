"""What tools and models write that is no prose: output of commands, code, records, arguments. The authors' own.

The estimate of tokens is measured by these (`tests.support.o200k`). Each is long enough to have a rate of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import uuid

__all__ = ["TOOL_OUTPUTS"]

_DICE = random.Random(7)

_ROWS = [
    {
        "order_id": f"ORD-{_DICE.randrange(10**6):06d}",
        "customer": name,
        "placed": f"2026-0{month}-1{month}T08:3{month}:00Z",
        "items": [{"sku": f"{name[:3].upper()}-{month * 37}", "qty": month, "price": round(9.9 * month, 2)}],
        "paid": month % 2 == 0,
        "note": None,
    }
    for month, name in enumerate(("Marta Oliveira", "Jonas Becker", "Aiko Tanaka", "Priya Raman"), 1)
]


def _hex_dump() -> str:
    data = hashlib.sha512(b"dump").digest() * 2
    lines = []
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        shown = "".join(chr(one) if 32 <= one < 127 else "." for one in part)
        lines.append(f"{start:08x}  {part.hex(' ')}  |{shown}|")
    return "\n".join(lines)


def _numbers() -> str:
    return "\n".join(",".join(f"{_DICE.uniform(-40, 40):.4f}" for _ in range(8)) for _ in range(12))


TOOL_OUTPUTS = {
    "tool: test run": (
        "============================= test session starts ==============================\n"
        "platform linux -- Python 3.12.1, pytest-8.3.2, pluggy-1.5.0\n"
        "rootdir: /srv/shop\nconfigfile: pyproject.toml\nplugins: anyio-4.4.0, cov-5.0.0\ncollected 41 items\n\n"
        "tests/test_cart.py ......F.....                                          [ 29%]\n"
        "tests/test_checkout.py ............                                      [ 58%]\n"
        "tests/test_stock.py .................                                    [100%]\n\n"
        "=================================== FAILURES ===================================\n"
        "______________________________ test_total_rounds _______________________________\n\n"
        "    def test_total_rounds():\n        cart = Cart(currency='EUR')\n        cart.add('tea', 3, unit=Decimal('1.333'))\n"
        ">       assert cart.total() == Decimal('4.00')\nE       AssertionError: assert Decimal('3.999') == Decimal('4.00')\n\n"
        "tests/test_cart.py:58: AssertionError\n"
        "=========================== short test summary info ============================\n"
        "FAILED tests/test_cart.py::test_total_rounds - AssertionError: assert Decimal('3.999')...\n"
        "========================= 1 failed, 40 passed in 2.31s =========================\n"
    ),
    "tool: diff": (
        "diff --git a/shop/cart.py b/shop/cart.py\nindex 8f2c1aa..41d09be 100644\n--- a/shop/cart.py\n+++ b/shop/cart.py\n"
        "@@ -41,9 +41,11 @@ class Cart:\n     def total(self) -> Decimal:\n"
        '         """Return the sum of all lines, in the currency of the cart."""\n'
        "-        return sum(line.unit * line.quantity for line in self.lines)\n"
        "+        exact = sum((line.unit * line.quantity for line in self.lines), Decimal(0))\n"
        '+        return exact.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN)\n \n'
        "     def remove(self, sku: str) -> None:\n-        self.lines = [l for l in self.lines if l.sku != sku]\n"
        "+        self.lines = [line for line in self.lines if line.sku != sku]\n"
    ),
    "tool: file list": (
        "total 84\ndrwxr-xr-x  9 deploy deploy  4096 Mar  3 10:12 .\ndrwxr-xr-x  4 root   root    4096 Feb 27 08:00 ..\n"
        "-rw-r--r--  1 deploy deploy   612 Mar  1 17:44 .gitignore\n-rw-r--r--  1 deploy deploy 11357 Feb 27 08:01 LICENSE\n"
        "-rw-r--r--  1 deploy deploy  2204 Mar  3 10:12 pyproject.toml\ndrwxr-xr-x  3 deploy deploy  4096 Mar  3 10:10 shop\n"
        "drwxr-xr-x  2 deploy deploy  4096 Mar  2 12:30 tests\n-rwxr-xr-x  1 deploy deploy   318 Feb 28 09:15 run.sh\n"
    ),
    "tool: traceback": (
        'Traceback (most recent call last):\n  File "/srv/shop/worker.py", line 88, in run\n    self._handle(job)\n'
        '  File "/srv/shop/worker.py", line 131, in _handle\n    rate = self.rates.lookup(job.currency, at=job.created_at)\n'
        '           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File "/srv/shop/rates.py", line 47, in lookup\n'
        "    raise RateMissingError(currency, at)\nshop.errors.RateMissingError: no rate for 'CHF' at 2026-03-02T23:59:58+00:00\n"
    ),
    "tool: records, compact": json.dumps(_ROWS, separators=(",", ":")),
    "tool: records, indented": json.dumps(_ROWS, indent=2),
    "tool: records, escaped": json.dumps({"stadt": "Zürich", "名前": "田中愛子", "комментарий": "оставьте внизу"}) * 3,
    "tool: arguments": json.dumps(
        {
            "path": "src/components/OrderTable.tsx",
            "old_text": 'const [rows, setRows] = useState([]);\n  return <Table data={rows} className="orders" />;',
            "new_text": "const rows = useOrders(filter);\n  if (!rows) {\n    return <Spinner />;\n  }\n  return <Table data={rows} />;",
            "dry_run": False,
        }
    ),
    "tool: TypeScript": (
        "export async function fetchOrders(filter: OrderFilter, signal?: AbortSignal): Promise<Order[]> {\n"
        "  const query = new URLSearchParams({ state: filter.state, limit: String(filter.limit ?? 50) });\n"
        "  const response = await fetch(`/api/orders?${query}`, { signal });\n"
        "  if (!response.ok) {\n    throw new ApiError(response.status, await response.text());\n  }\n"
        "  const { orders } = (await response.json()) as { orders: Order[] };\n"
        "  return orders.map((order) => ({ ...order, placedAt: new Date(order.placedAt) }));\n}\n"
    ),
    "tool: minified JavaScript": (
        '!function(e,t){"object"==typeof exports?module.exports=t():e.cart=t()}(this,function(){var e=[],t=0;return{add:'
        "function(n,r){e.push({s:n,q:r||1}),t+=r||1;return this},size:function(){return t},each:function(t){for(var n=0,"
        "r=e.length;n<r;n++)if(!1===t(e[n],n))break},sum:function(t){return e.reduce(function(e,n){return e+n.q*t(n.s)},0)}}});"
    ),
    "tool: Go": (
        "func (s *Store) Load(ctx context.Context, key string) (*Session, error) {\n\ts.mu.RLock()\n\tdefer s.mu.RUnlock()\n"
        '\tsess, ok := s.sessions[key]\n\tif !ok {\n\t\treturn nil, fmt.Errorf("load %q: %w", key, ErrNotFound)\n\t}\n'
        "\tselect {\n\tcase <-ctx.Done():\n\t\treturn nil, ctx.Err()\n\tdefault:\n\t\treturn sess.Clone(), nil\n\t}\n}\n"
    ),
    "tool: C": (
        "static int ring_push(struct ring *r, const uint8_t *src, size_t len)\n{\n\tsize_t head = atomic_load(&r->head);\n"
        "\tsize_t tail = atomic_load(&r->tail);\n\n\tif (len > r->size - (head - tail))\n\t\treturn -ENOSPC;\n"
        "\tfor (size_t i = 0; i < len; i++)\n\t\tr->buf[(head + i) & (r->size - 1)] = src[i];\n"
        "\tatomic_store(&r->head, head + len);\n\treturn 0;\n}\n"
    ),
    "tool: SQL and its result": (
        "SELECT c.name, count(*) AS orders, sum(o.total_cents) / 100.0 AS revenue\nFROM orders o JOIN customers c ON c.id = o.customer_id\n"
        "WHERE o.placed_at >= date_trunc('month', now())\nGROUP BY c.name ORDER BY revenue DESC LIMIT 3;\n\n"
        "      name       | orders | revenue\n-----------------+--------+---------\n Marta Oliveira  |     14 | 1203.40\n"
        " Jonas Becker    |      9 |  871.05\n Aiko Tanaka     |      7 |  655.90\n(3 rows)\n"
    ),
    "tool: HTML": (
        '<!doctype html>\n<html lang="en">\n<head>\n  <meta charset="utf-8">\n  <title>Order 4711 - Tea House</title>\n'
        '  <link rel="stylesheet" href="/static/css/main.5f3a9c.css">\n</head>\n<body class="order-page">\n'
        '  <nav><ul><li><a href="/">Home</a></li><li><a href="/orders">Orders</a></li></ul></nav>\n'
        '  <div id="app" data-order="4711"><h1>Thank you, Marta!</h1>\n'
        "  <p>We have received your order and will ship it on <strong>Friday</strong>.</p></div>\n"
        '  <script defer src="/static/js/bundle.min.js"></script>\n</body>\n</html>\n'
    ),
    "tool: YAML": (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: shop-worker\n  labels:\n    app.kubernetes.io/name: shop\nspec:\n"
        "  replicas: 3\n  selector:\n    matchLabels:\n      app: shop-worker\n  template:\n    spec:\n      containers:\n"
        "        - name: worker\n          image: registry.example.com/shop/worker:1.14.2\n          resources:\n"
        '            limits: {cpu: "500m", memory: 256Mi}\n          env:\n            - name: LOG_LEVEL\n              value: info\n'
    ),
    "tool: access log": (
        '203.0.113.7 - - [03/Mar/2026:10:12:41 +0000] "GET /api/orders?state=open&limit=50 HTTP/1.1" 200 18342 "-" "curl/8.5.0"\n'
        '198.51.100.23 - marta [03/Mar/2026:10:12:43 +0000] "POST /api/orders/4711/cancel HTTP/2.0" 409 91 '
        '"https://shop.example.com/orders" "Mozilla/5.0 (X11; Linux x86_64; rv:124.0) Gecko/20100101 Firefox/124.0"\n'
    )
    * 2,
    "tool: processes": (
        "USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND\n"
        "root           1  0.0  0.1 168140 11520 ?        Ss   Feb27   0:09 /sbin/init\n"
        "postgres     812  0.2  1.9 219840 78212 ?        Ss   Feb27  11:42 postgres: checkpointer\n"
        "deploy      4410 12.7  4.4 812332 180064 ?       Sl   10:02   1:31 python -m shop.worker --queue mail\n"
    ),
    "tool: tree": (
        "shop\n├── __init__.py\n├── cart.py\n├── checkout\n│   ├── __init__.py\n│   ├── payment.py\n│   └── shipping.py\n"
        "├── rates.py\n└── worker.py\n\n2 directories, 7 files\n"
    ),
    "tool: packages": "\n".join(
        f"{name}=={_DICE.randrange(9)}.{_DICE.randrange(30)}.{_DICE.randrange(9)}"
        for name in (
            "attrs",
            "certifi",
            "click",
            "fastapi",
            "greenlet",
            "httpx",
            "jinja2",
            "numpy",
            "pydantic",
            "sqlalchemy",
            "uvicorn",
        )
    ),
    "tool: compiler": (
        "src/ring.c:42:17: error: incompatible pointer types passing 'const char *' to parameter of type 'const uint8_t *' "
        "[-Werror,-Wincompatible-pointer-types]\n   42 |         ring_push(&r, msg, strlen(msg));\n"
        "      |                       ^~~\nsrc/ring.h:11:48: note: passing argument to parameter 'src' here\n1 error generated.\n"
    ),
    "tool: shell script": (
        '#!/usr/bin/env bash\nset -euo pipefail\n\nbackup_dir="${BACKUP_DIR:-/var/backups/shop}"\nstamp="$(date -u +%Y%m%dT%H%M%SZ)"\n'
        'pg_dump --format=custom "$DATABASE_URL" > "$backup_dir/shop-$stamp.dump"\n'
        'find "$backup_dir" -name "shop-*.dump" -mtime +14 -print -delete\n'
    ),
    "tool: Markdown": (
        "## Installation\n\n1. Install the package: `pip install shop-client`\n2. Set your key:\n\n```sh\nexport SHOP_KEY=...\n```\n\n"
        "| option | default | meaning |\n|--------|---------|---------|\n| `timeout` | 30 | seconds until a request fails |\n"
        "| `retries` | 2 | further tries of a request that is safe to repeat |\n\n> **Note:** keys of test shops start with `test_`.\n"
    ),
    "tool: search results": (
        "[1] Porto in three days - a walking guide (https://travel.example.com/porto-3-days)\nThe Ribeira is best before nine in the "
        "morning, when the boats are still moored and the cafes set out their chairs.\n[2] Livraria Lello tickets "
        "(https://tickets.example.org/lello?lang=en)\nTimed entry, 8 EUR, refunded with a book. Closed on 25 December and 1 January.\n"
    ),
    "tool: numbers": _numbers(),
    "tool: hex dump": _hex_dump(),
    "tool: ids": "\n".join(str(uuid.UUID(int=_DICE.getrandbits(128), version=4)) for _ in range(12)),
    "tool: base64": base64.b64encode(hashlib.sha512(b"key").digest() * 6).decode(),
}
