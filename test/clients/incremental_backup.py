"""One incremental backup by the modules of virtnbdbackup: what an export's dirty bitmap marks is copied into an image.

    incremental_backup.py SOCKET EXPORT CONTEXT IMAGE

Prints the marked extents as JSON: [[OFFSET, LENGTH], ...].
"""
import json
import sys

from libvirtnbdbackup.extenthandler.extenthandler import ExtentHandler
from libvirtnbdbackup.nbdcli.client import Unix, client

socket, export, context, image = sys.argv[1:]
where = Unix(export, context, socket)
connection = client(where).connect()
dirty = [each for each in ExtentHandler(connection, where).queryBlockStatus() if each.data]
with open(image, "r+b") as target:
    for extent in dirty:
        target.seek(extent.offset)
        at, end = extent.offset, extent.offset + extent.length
        while at < end:
            length = min(end - at, connection.maxRequestSize)
            target.write(connection.nbd.pread(length, at))
            at += length
connection.disconnect()
print(json.dumps([[each.offset, each.length] for each in dirty]))
