"""The peer of `bench.redfish`: a plain Flask service over TLS, which reads each page from a file for each request.

    python redfish_peer.py FOLDER CERTIFICATE {1.0,1.1}

CERTIFICATE: PEM, key with it. The last word is the HTTP version: Flask's own server speaks 1.0, which ends a connection with each answer;
1.1 lets it keep them. It prints its port, and serves with a thread a connection until it is ended. It needs nothing but Flask."""

import logging
import ssl
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
HEADERS = {"OData-Version": "4.0", "Cache-Control": "no-cache", "Allow": "GET, HEAD"}


def app() -> Any:
    """Pages by their path: `/redfish/v1/` is the file `redfish/v1/index.json`."""
    flask = import_module("flask")
    made = flask.Flask(__name__)

    def page(path: str) -> Any:
        content = (FOLDER / path / "index.json").read_text()
        return flask.Response(content, headers=HEADERS, mimetype="application/json")

    made.add_url_rule("/<path:path>", view_func=page)
    return made


def main() -> None:
    serving = import_module("werkzeug.serving")
    # Its line for each request would go to a terminal that nobody reads.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    serving.WSGIRequestHandler.protocol_version = f"HTTP/{sys.argv[3]}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    server = serving.make_server("127.0.0.1", 0, app(), threaded=True, ssl_context=context)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
