"""A Django program over a proxy with one backend: `python django_program.py URL`. Prints what happened, as JSON."""

from __future__ import annotations

import json
import sys
import types
from datetime import datetime, timezone
from typing import Any

import django
from django.conf import settings

import rdsproxy_lib

URL = sys.argv[1]
IS_MYSQL = URL.startswith("mysql")

if IS_MYSQL:
    import pymysql

    pymysql.version_info = (2, 2, 7, "final", 0)  # the least of mysqlclient that Django takes
    pymysql.install_as_MySQLdb()
    from django.db.backends.mysql.base import DatabaseWrapper
else:
    from django.db.backends.postgresql.base import DatabaseWrapper

proxy = rdsproxy_lib.Proxy(URL, max_connections=1, connection_borrow_timeout=10, audit=True)
events: list[Any] = []
proxy.add_event_handler(events.append)


class Wrapper(DatabaseWrapper):
    """Django's own, whose connections are the proxy's."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = proxy.connect(**conn_params)
        if IS_MYSQL:
            connection.encoders.pop(bytes, None)
        return connection


backend = types.ModuleType("multiplexed")
backend.base = types.ModuleType("multiplexed.base")
backend.base.DatabaseWrapper = Wrapper
sys.modules.update({"multiplexed": backend, "multiplexed.base": backend.base})

name = proxy.target.dbname
settings.configure(
    USE_TZ=True,
    TIME_ZONE="Europe/Berlin",
    DATABASES={
        "default": {"ENGINE": "multiplexed", "NAME": name},
        "second": {"ENGINE": "multiplexed", "NAME": name, "TIME_ZONE": "Asia/Tokyo"},
    },
)
django.setup()

from django.db import IntegrityError, connections, models, transaction  # noqa: E402


class Item(models.Model):
    """Something with a time."""

    name = models.CharField(max_length=50, unique=True)
    at = models.DateTimeField()

    class Meta:
        app_label = "shop"


NOON = datetime(2020, 1, 1, 12, tzinfo=timezone.utc)


def work(alias: str, number: int) -> None:
    """What an application does: create, look, change, fail, roll back, read in portions."""
    items = Item.objects.using(alias)
    item = items.create(name=f"{alias} {number}", at=NOON)
    assert items.get(pk=item.pk).at == NOON
    with transaction.atomic(using=alias):
        items.filter(pk=item.pk).update(name=f"{alias} {number} changed")
        try:
            with transaction.atomic(using=alias):
                items.create(name=f"{alias} {number} changed", at=NOON)
        except IntegrityError:
            pass
        names = [each.name for each in items.order_by("pk").iterator(chunk_size=2)]
        assert f"{alias} {number} changed" in names
    try:
        with transaction.atomic(using=alias):
            items.all().delete()
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert items.count() >= number + 1


with connections["default"].schema_editor() as editor:
    editor.create_model(Item)
for number in range(4):
    for alias in ("default", "second"):
        work(alias, number)

if not IS_MYSQL:
    question = "show timezone"
elif connections["default"].mysql_is_mariadb:
    question = "select @@tx_isolation"
else:
    question = "select @@transaction_isolation"
with connections["default"].cursor() as cursor:
    cursor.execute(question)
    (shown,) = cursor.fetchone()

clients = [connections[alias].connection.rdsproxy for alias in ("default", "second")]
stats = proxy.stats()
print(
    json.dumps(
        {
            "pins": dict(stats.pins),
            "pinned": [client.pinned for client in clients],
            "backends": len({client.backend_id for client in clients}),
            "opened": stats.database_connections_setup_succeeded,
            "relabels": stats.relabels,
            "events": [str(event) for event in events],
            "shown": shown,
            "rows": Item.objects.count(),
        }
    )
)
connections.close_all()
proxy.close()
